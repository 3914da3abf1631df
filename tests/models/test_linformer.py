"""Linformer against explicit matrices."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.linformer import SHARINGS, Linformer
from lra.models.parts.heads import rotate
from lra.models.stack import ResidualStack
from tests.help.compare import assert_mixer, assert_same, distance, random_mask


def explicit(x: Tensor, mask: Tensor, layer: Linformer) -> Tensor:
    """Wang et al. 2020, eq. 7, in the order in which it is written."""
    weights = {name: p.to(x.dtype) for name, p in layer.named_parameters(remove_duplicate=False)}
    q, k, v = (layer.split(x @ weights[f"{name}.weight"].T) for name in ("query", "key", "value"))
    if layer.rotary:
        q, k = rotate(q), rotate(k)
    k, v = (t * mask[:, None, :, None] for t in (k, v))
    k = weights["mix_keys"][..., : x.shape[1]] @ k
    v = weights["mix_values"][..., : x.shape[1]] @ v
    attention = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return layer.join(attention @ v) @ weights["out.weight"].T


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 50),
    rank=st.sampled_from([1, 7, 64]),
    sharing=st.sampled_from(SHARINGS),
    rotary=st.booleans(),
)
def test_equals_the_explicit_product(seed, length, rank, sharing, rotary) -> None:
    torch.manual_seed(seed)
    layer = Linformer(12, 3, 50, rank=rank, sharing=sharing, rotary=rotary)
    mask = random_mask(2, length, torch.Generator().manual_seed(seed), scattered=seed % 2 == 0)
    x = torch.randn(2, length, 12)
    assert_same(lambda x: layer(x, mask), lambda x: explicit(x, mask, layer), [x], mask)


def test_full_rank_is_softmax_attention() -> None:
    torch.manual_seed(0)
    for sharing in SHARINGS:
        layer = Linformer(16, 2, 20, rank=20, sharing=sharing)
        with torch.no_grad():
            layer.mix_keys.copy_(torch.eye(20))
            layer.mix_values.copy_(torch.eye(20))
        x = torch.randn(2, 20, 16)
        q, k, v = (layer.split(p(x)) for p in (layer.query, layer.key, layer.value))
        exact = layer.out(layer.join(F.scaled_dot_product_attention(q, k, v)))
        assert distance(layer(x, torch.ones(2, 20, dtype=torch.bool)), exact) < 1e-5


def test_what_is_shared() -> None:
    def count(sharing: str) -> int:
        """Parameters of E and F in two layers of three heads."""
        stack = ResidualStack(
            lambda layer, shared: Linformer(12, 3, 50, rank=5, sharing=sharing, shared=shared), 2, 12, 8
        )
        return sum(p.numel() for name, p in stack.named_parameters() if ".mix_" in name)

    assert [count(s) // (5 * 50) for s in SHARINGS] == [12, 4, 2, 1]


def test_keeps_the_contract() -> None:
    for sharing in SHARINGS:
        assert_mixer(lambda sharing=sharing, **facts: Linformer(rank=8, sharing=sharing, **facts))
    assert_mixer(lambda **facts: Linformer(rank=8, rotary=True, **facts))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer = Linformer(16, 2, 20, rank=4, dropout=0.5)
    x, mask = torch.randn(2, 20, 16), torch.ones(2, 20, dtype=torch.bool)
    assert not torch.equal(layer(x, mask), layer(x, mask))
    layer.eval()
    assert torch.equal(layer(x, mask), layer(x, mask))


def test_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^model\.mixer\.sharing: 'all' is not one of none, "):
        Linformer(16, 2, 20, sharing="all")
    with pytest.raises(ValueError, match=r"^model\.mixer\.rank: 0 "):
        Linformer(16, 2, 20, rank=0)
    with pytest.raises(ValueError, match="length 21 is above 20"):
        Linformer(16, 2, 20)(torch.zeros(1, 21, 16), torch.ones(1, 21, dtype=torch.bool))
