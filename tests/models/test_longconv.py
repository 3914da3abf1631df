"""Long convolutions against the sum over all pairs of positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lra.models.longconv import LongConv
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_shifts, defaults, masks, tagged
from tests.help.paper import assert_equation, assert_normal

DIM, MAX_LEN = 4, 40


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """K = sign(W) relu(|W| - 0.003); the future starts one step ahead."""
    u = torch.where(mask[..., None], x, 0)
    kernel = w["taps"].sign() * (w["taps"].abs() - 0.003).clamp(min=0)
    length = x.shape[1]
    dense = x.new_zeros(DIM, length, length)
    for t in range(length):
        for s in range(length):
            if s <= t and t - s < kernel.shape[-1]:
                dense[:, t, s] = kernel[0, :, t - s]
            if s > t and s - t - 1 < kernel.shape[-1]:
                dense[:, t, s] = kernel[1, :, s - t - 1]
    y = torch.einsum("dts,bsd->btd", dense, u) + w["skip"] * u
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    p, q = (y @ w["out.weight"].T + w["out.bias"]).chunk(2, -1)
    return p / (1 + (-q).exp())


@pytest.mark.parametrize("scale", [1, 100])
def test_equals_the_sum_over_pairs(scale: float) -> None:
    for seed, length in enumerate((1, 2, 17, MAX_LEN)):
        torch.manual_seed(seed)
        layer = LongConv(DIM, MAX_LEN)
        with torch.no_grad():
            layer.taps.mul_(scale)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, slow, x, masks(length, seed), double=1e-11, single=1e-5)


def test_nothing_is_seen_beyond_max_len() -> None:
    torch.manual_seed(0)
    layer = LongConv(DIM, 15)
    with torch.no_grad():
        layer.taps.mul_(100)
    assert_equation(layer, slow, torch.randn(5, 40, DIM), masks(40), double=1e-11, single=1e-5)


def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(LongConv(4, 16_384), 4)


def test_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    layer = LongConv(DIM, 70)
    with torch.no_grad():
        layer.taps.mul_(100)
    assert_shifts(layer, DIM)


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    layer = LongConv(300, 256)
    assert layer.taps.shape == (2, 300, 256)
    assert_normal(layer.taps, 0.002)
    assert_normal(layer.skip, 1)
    assert abs(float((layer.taps.abs() > 0.003).float().mean()) - 0.134) < 0.01
    assert tagged(layer) == {"taps": {"rate": 0.1, "decay": 0.0}}
    assert defaults(LongConv) == {"squash": 0.003, "rate": 0.1}


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: LongConv(dim, max_len, squash=0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"squash": -0.1}, "model.mixer.squash: -0.1 is below 0"),
        ({"rate": 0.0}, "model.mixer.rate: 0.0 is not above 0"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongConv(DIM, MAX_LEN, **options)
