"""cosFormer against all of its weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.cosformer import CosFormer
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_twin
from tests.help.paper import join, projected
from tests.help.recurrence import compacted, masks


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 3) -> Tensor:
    q, k, v = projected(w, x, heads)
    out = []
    for b, real in enumerate(mask):
        number, rank = max(int(real.sum()), 1), real.cumsum(0).double()
        near = torch.cos(torch.pi * (rank[:, None] - rank) / (2 * number))
        weights = q[b].clamp(min=0) @ k[b].clamp(min=0).mT * near * real
        out.append(weights @ v[b] / weights.sum(-1, keepdim=True).clamp(min=1e-6))
    return join(torch.stack(out)) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 70])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    assert_twin(CosFormer(15, 3, 70, qkv_dim=12), equation, 15, length)


def test_a_hole_is_not_there() -> None:
    torch.manual_seed(0)
    layer, x, mask = CosFormer(16, 2, 60), torch.randn(5, 60, 16), masks(60)
    for y, real, alone in zip(layer(x, mask), mask, compacted(layer, x, mask), strict=True):
        torch.testing.assert_close(y[real], alone, rtol=1e-5, atol=1e-6)


def test_a_query_without_features_gets_zeros() -> None:
    layer = CosFormer(4, 1, 8)
    with torch.no_grad():
        layer.query.weight.copy_(-torch.eye(4))
    assert not layer(torch.rand(1, 8, 4), torch.ones(1, 8, dtype=torch.bool)).any()


def test_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(CosFormer(16, 1, 16_384), 16)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, CosFormer))
