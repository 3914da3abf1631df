"""LION-D and LION-S against all L x L weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.lion import DECAYS, Lion
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, join, projected, wake
from tests.help.recurrence import compacted, masks, recurrent

HEADS = 3


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """w_ij position by position, a hole counting as a decay of 1."""
    q, k, v = projected(w, x, HEADS)
    q, k = (t / (1 + (-t).exp()) + 0.5 for t in (q, k))
    q, k = (t / t.square().sum(-1, keepdim=True).sqrt() for t in (q, k))
    real = mask[:, None].double()
    length = x.shape[1]
    weights = x.new_zeros(len(x), HEADS, length, length)
    if "rate" in w:
        g = (1 / (1 + (-w["rate"]).exp()))[:, None] ** real
    else:
        g = (1 - 1 / (1 + (-(x @ w["forget.weight"].T + w["forget.bias"])).exp())).mT ** real
    for i in range(length):
        for j in range(length):
            if "rate" in w:
                between = g[..., j + 1 : i + 1] if j < i else g[..., i + 1 : j + 1]
            else:
                between = g[..., j:i] if j < i else g[..., i + 1 : j + 1]
            weights[:, :, i, j] = between.prod(-1)
    weights = weights * (q @ k.mT) / q.shape[-1] ** 0.5 * real[:, :, None]
    return join(weights / (weights.sum(-1, keepdim=True) + 1e-6) @ v) @ w["out.weight"].T


@pytest.mark.parametrize("decay", DECAYS)
def test_the_layer_equals_the_equation(decay: str) -> None:
    for length in (1, 2, 67):
        torch.manual_seed(length)
        layer = Lion(10, HEADS, 99, qkv_dim=12, decay=decay)
        wake(layer)
        assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


@pytest.mark.parametrize("decay", DECAYS)
def test_a_hole_is_not_there(decay: str) -> None:
    torch.manual_seed(0)
    layer, x, mask = Lion(16, 2, 90, decay=decay), torch.randn(5, 90, 16), masks(90)
    for y, real, alone in zip(layer(x, mask), mask, compacted(layer, x, mask), strict=True):
        torch.testing.assert_close(y[real], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_turned_round(decay: str) -> None:
    torch.manual_seed(0)
    layer, x, mask = Lion(16, 2, 90, decay=decay), torch.randn(2, 90, 16), torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(layer(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-5, atol=1e-6)


def test_it_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    layer = Lion(1000, 1000, 9, decay="learned")
    assert layer.forget is None
    assert abs(layer.rate.mean()) < 0.15 and abs(layer.rate.std() - 1) < 0.1
    layer = Lion(16, 2, 9)
    assert layer.rate is None and layer.forget.bias.shape == (2,) and layer.query.bias is None


def test_a_bad_decay_is_told() -> None:
    with pytest.raises(ValueError, match=r"model.mixer.decay: 'none' is not one of learned, selective"):
        Lion(16, 2, 9, decay="none")


@pytest.mark.parametrize("decay", DECAYS)
def test_keeps_the_contract(decay: str) -> None:
    assert_mixer(partial(build, partial(Lion, decay=decay)))
