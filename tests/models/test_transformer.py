"""Full attention against equation 1, with its dropout."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.parts import softmax
from lra.models.transformer import FullAttention
from tests.help.compare import assert_causal, assert_mixer
from tests.help.drawn import dropped_weights
from tests.help.mixers import assert_twin
from tests.help.paper import (
    assert_equation,
    assert_xavier,
    join,
    neighbourly,
    patterned,
    projected,
    seeded,
    softmax_over,
    some_mask,
)
from tests.help.recurrence import masks

EVERYTHING = torch.ones(1, 1, 1, dtype=torch.bool)


OPTIONS = {
    "causal": {"causal": True},
    "convolved": {"conv_kernel": 3},
    "both": {"conv_kernel": 4, "causal": True},
    "rotary": {"conv_kernel": 3, "causal": True, "rotary": True},
}


def ablated(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, conv_kernel: int = 0, causal: bool = False, rotary: bool = False
) -> Tensor:
    """The lower triangle of the weights, the convolutions position by position."""
    q, k, v = neighbourly(w, x * mask[..., None], mask, 3, rotary, bool(conv_kernel))
    seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    seen = (seen.tril() if causal else seen) & mask[:, None, None]
    return join(softmax_over(q, k, v, seen)) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 3, 90])
@pytest.mark.parametrize("kind", OPTIONS)
def test_the_options_equal_their_equations(kind: str, length: int) -> None:
    torch.manual_seed(length)
    layer = FullAttention(15, 3, 200, qkv_dim=12, **OPTIONS[kind])
    x = torch.randn(5, length, 15) * 2
    assert_equation(layer, partial(ablated, **OPTIONS[kind]), x, masks(length))


def remembering(w: dict[str, Tensor], x: Tensor, mask: Tensor, rotary: bool = False) -> Tensor:
    """Sukhbaatar et al. 2019: m_k = sqrt(E) m'_k and m_v = sqrt(N) m'_v in front of keys and values."""
    q, k, v = projected(w, x, 3, rotary=rotary)
    own = w["persistent_key"] * q.shape[-1] ** 0.5, w["persistent_value"] * w["persistent_value"].shape[1] ** 0.5
    k, v = (torch.cat((t.expand(len(x), -1, -1, -1), s), 2) for t, s in zip(own, (k, v), strict=True))
    seen = torch.cat((mask.new_ones(len(mask), own[0].shape[1]), mask), 1)
    return join(softmax_over(q, k, v, seen[:, None, None])) @ w["out.weight"].T


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 40])
def test_persistent_vectors_equal_their_equation(length: int, rotary: bool) -> None:
    torch.manual_seed(length)
    layer = FullAttention(15, 3, 40, qkv_dim=12, rotary=rotary, persistent=5)
    assert 0.3 < layer.persistent_key.std() < 0.7 and 0.3 < layer.persistent_value.std() < 0.6
    assert_twin(layer, partial(remembering, rotary=rotary), 15, length)


def test_persistent_vectors_are_dropped_as_others_are_and_see_no_order() -> None:
    torch.manual_seed(0)
    layer, x = FullAttention(16, 2, 30, dropout=0.5, persistent=6).train(), torch.zeros(400, 1, 16)
    with torch.no_grad():
        layer.persistent_value.fill_(1)
        y = layer.join(layer.attend(*[layer.split(x)] * 3, torch.ones(400, 1, dtype=torch.bool)))
    # Six equal weights out of seven, the seventh on a value of zero: the kept of them are a binomial law.
    share = y[:, 0, ::8] / 6**0.5 * 7 / 2
    torch.testing.assert_close(share, share.round(), rtol=0, atol=1e-4)
    assert abs(share.mean() - 3) < 0.2 and abs(share.var() - 1.5) < 0.3


def test_bad_persistent_vectors_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.persistent: -1 is not 0 or more"):
        FullAttention(16, 2, 30, persistent=-1)
    with pytest.raises(ValueError, match="model.mixer.persistent: 2 is not possible with causal"):
        FullAttention(16, 2, 30, persistent=2, causal=True)


def test_causal_sees_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fused kernel, and in blocks, where weights are dropped."""
    monkeypatch.setattr(softmax, "SCORES", 1000)
    monkeypatch.setattr(softmax, "FEWEST_QUERIES", 16)
    monkeypatch.setattr(softmax, "KEYS", 24)
    for options in ({}, {"conv_kernel": 4, "rotary": True}):
        torch.manual_seed(0)
        layer = FullAttention(12, 2, 150, dropout=0.3, causal=True, **options)
        assert_causal(layer.eval(), 12)
        assert_causal(layer.train(), 12)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 2, 37, 200])
def test_equals_the_equation(length: int, rotary: bool) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        layer = FullAttention(15, 3, 200, qkv_dim=12, rotary=rotary)
        x = torch.randn(2, length, 15) * 2
        assert_equation(layer, patterned(3, EVERYTHING, rotary), x, some_mask(2, length, seed))


def dropped(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int, rate: float, causal: bool = False) -> Tensor:
    """Attention whose weights are dropped after the softmax, from the seed."""
    q, k, v = projected(w, x, heads)
    seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    seen = (seen.tril() if causal else seen) & mask[:, None, None]
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -1e300)
    torch.manual_seed(5)
    return join(dropped_weights(scores.softmax(-1), rate) @ v) @ w["out.weight"].T


@pytest.mark.parametrize("causal", [False, True])
def test_dropout_falls_on_the_weights(causal: bool) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        layer = seeded(FullAttention(15, 3, 40, qkv_dim=12, dropout=0.3, causal=causal))
        x, mask = torch.randn(2, 40, 15), some_mask(2, 40, seed)
        assert_equation(layer, partial(dropped, heads=3, rate=0.3, causal=causal), x, mask, single=None)
        assert_equation(layer.eval(), partial(ablated, causal=causal), x, mask)


def test_starts_as_the_official_code() -> None:
    torch.manual_seed(0)
    layer = FullAttention(96, 4, 8, qkv_dim=64)
    for projection in (layer.query, layer.key, layer.value, layer.out):
        assert projection.bias is None
        assert_xavier(projection.weight, 96, 64)


def test_contract() -> None:
    for options in ({}, {"rotary": True}, *OPTIONS.values(), {"persistent": 4}):
        assert_mixer(partial(FullAttention, **options))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size\.heads: 5 does not divide qkv_dim 12"):
        FullAttention(12, 5, 8)
    with pytest.raises(ValueError, match=r"size\.heads: 0 "):
        FullAttention(12, 0, 8)
    with pytest.raises(ValueError, match=r"model\.position: rotary needs an even head width, not 3"):
        FullAttention(12, 4, 8, rotary=True)
    with pytest.raises(ValueError, match=r"model\.mixer\.conv_kernel: 0 is not above 0, or null"):
        FullAttention(12, 4, 8, conv_kernel=0)
