"""The Linear Transformer against its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lra.models.parts.tiles
from lra.models.linear import LinearAttention
from tests.help.compare import assert_mixer, assert_same, random_mask


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Katharopoulos et al. 2020, eq. 4 with eq. 7: all L x L weights."""
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT * mask[:, None, None, :]
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 70),
    heads=st.sampled_from([1, 3]),
    width=st.sampled_from([1, 4, 10]),
    block=st.sampled_from([1, 4096]),
)
def test_equals_the_dense_weights(seed, length, heads, width, block) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = LinearAttention(heads * width, heads, 70)
    qkv = [torch.randn(2, heads, length, width, generator=generator) for _ in range(3)]
    mask = random_mask(2, length, generator, scattered=seed % 2 == 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)  # 1: blocks of 16 positions
        assert_same(lambda *x: layer.attend(*x, mask), lambda *x: dense(*x, mask), qkv, mask)


def test_keeps_the_contract() -> None:
    for rotary in (False, True):
        assert_mixer(lambda rotary=rotary, **facts: LinearAttention(rotary=rotary, **facts))
