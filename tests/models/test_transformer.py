"""Full attention against equation 1, with its dropout."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.transformer import FullAttention
from tests.help.compare import assert_mixer
from tests.help.drawn import dropped_weights
from tests.help.paper import (
    assert_equation,
    assert_xavier,
    join,
    patterned,
    projected,
    seeded,
    some_mask,
)

EVERYTHING = torch.ones(1, 1, 1, dtype=torch.bool)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 2, 37, 200])
def test_equals_the_equation(length: int, rotary: bool) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        layer = FullAttention(15, 3, 200, qkv_dim=12, rotary=rotary)
        x = torch.randn(2, length, 15) * 2
        assert_equation(layer, patterned(3, EVERYTHING, rotary), x, some_mask(2, length, seed))


def dropped(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int, rate: float) -> Tensor:
    """Attention whose weights are dropped after the softmax, from the seed."""
    q, k, v = projected(w, x, heads)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask[:, None, None], -1e300)
    torch.manual_seed(5)
    return join(dropped_weights(scores.softmax(-1), rate) @ v) @ w["out.weight"].T


def test_dropout_falls_on_the_weights() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        layer = seeded(FullAttention(15, 3, 40, qkv_dim=12, dropout=0.3))
        x, mask = torch.randn(2, 40, 15), some_mask(2, 40, seed)
        assert_equation(layer, partial(dropped, heads=3, rate=0.3), x, mask, single=None)
        assert_equation(layer.eval(), patterned(3, EVERYTHING), x, mask)


def test_starts_as_the_official_code() -> None:
    torch.manual_seed(0)
    layer = FullAttention(96, 4, 8, qkv_dim=64)
    for projection in (layer.query, layer.key, layer.value, layer.out):
        assert projection.bias is None
        assert_xavier(projection.weight, 96, 64)


def test_contract() -> None:
    for rotary in (False, True):
        assert_mixer(partial(FullAttention, rotary=rotary))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size\.heads: 5 does not divide qkv_dim 12"):
        FullAttention(12, 5, 8)
    with pytest.raises(ValueError, match=r"size\.heads: 0 "):
        FullAttention(12, 0, 8)
    with pytest.raises(ValueError, match=r"model\.position: rotary needs an even head width, not 3"):
        FullAttention(12, 4, 8, rotary=True)
