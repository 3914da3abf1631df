"""RetNet against all L x L weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.factory import build
from lra.models.retnet import RetNet
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, projected, wake
from tests.help.recurrence import compacted, masks, recurrent

HEADS = 3


def turned(x: Tensor, rank: Tensor) -> Tensor:
    """Pairs (c, c + E/2) as complex numbers, turned by rank 10000^(-2c/E)."""
    half = x.shape[-1] // 2
    angle = rank[:, None, :, None] * 10_000 ** (-torch.arange(half) / half).double()
    z = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((z.real, z.imag), -1)


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """The parallel form, with |i - j| for i - j, counted in real tokens."""
    q, k, v = projected(w, x, HEADS)
    rank = mask.cumsum(1).double()
    q, k = turned(q, rank), turned(k, rank)
    far = (rank[:, None, :, None] - rank[:, None, None]).abs()
    weights = (1 - 2.0 ** (-5 - torch.arange(HEADS).double()))[:, None, None] ** far * mask[:, None, None]
    o = (weights * (q @ k.mT) / q.shape[-1] ** 0.5 @ v).transpose(1, 2)
    o = o - o.mean(-1, keepdim=True)
    o = (o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(2)
    return (F.silu(x @ w["gate.weight"].T) * o) @ w["out.weight"].T


def test_the_layer_equals_the_equation() -> None:
    for length in (1, 2, 197):
        torch.manual_seed(length)
        layer = RetNet(10, HEADS, 199, qkv_dim=12)
        wake(layer)
        assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


def test_a_hole_is_not_there() -> None:
    torch.manual_seed(0)
    layer, x, mask = RetNet(16, 2, 90), torch.randn(5, 90, 16), masks(90)
    for y, real, alone in zip(layer(x, mask), mask, compacted(layer, x, mask), strict=True):
        torch.testing.assert_close(y[real], alone, rtol=1e-4, atol=1e-5)


def test_the_gate_starts_as_the_projections() -> None:
    torch.manual_seed(0)
    assert_xavier(RetNet(256, 4, 9, qkv_dim=128).gate.weight, 128, 256)


def test_an_odd_width_is_told() -> None:
    with pytest.raises(ValueError, match="size.qkv_dim: rotated heads have an even width, not 5"):
        RetNet(10, 2, 9)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, RetNet))
