"""SGConv against its kernel tap by tap, summed over all pairs of positions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lra.models.sgconv import SGConv
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_shifts, defaults, masks, tagged
from tests.help.paper import Slow, assert_equation, assert_normal

DIM, MAX_LEN, PIECE = 4, 50, 8


def kernel(pieces: Tensor, length: int) -> Tensor:
    """Pieces (J, k) -> (length,): number i of the pieces has weight 2^(J-1-i) and 2^max(0, i-1) taps a number,
    interpolated between the centres of the numbers."""
    count, width = pieces.shape
    taps = []
    for i in range(count):
        factor = 2 ** max(0, i - 1)
        for tap in range(width * factor):
            place = min(max((tap + 0.5) / factor - 0.5, 0), width - 1)
            low = min(math.floor(place), width - 1)
            high = min(low + 1, width - 1)
            value = pieces[i, low] * (1 - place + low) + pieces[i, high] * (place - low)
            taps.append(value * 2 ** (count - 1 - i))
    return torch.stack(taps)[:length]


def convolved(u: Tensor, back: Tensor, ahead: Tensor) -> Tensor:
    """u (B, L, D), taps (D, K) each: over all pairs."""
    rows = []
    for t in range(u.shape[1]):
        row = 0
        for s in range(u.shape[1]):
            if s <= t and t - s < back.shape[1]:
                row = row + back[:, t - s] * u[:, s]
            if s > t and s - t - 1 < ahead.shape[1]:
                row = row + ahead[:, s - t - 1] * u[:, s]
        rows.append(row)
    return torch.stack(rows, 1)


def slow(layer: SGConv) -> Slow:
    norm = layer.norm.double()

    def run(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        u = torch.where(mask[..., None], x, 0)
        kernels = [torch.stack([kernel(channel, layer.max_len) for channel in side]) for side in w["pieces"]]
        y = convolved(u, *(k / n for k, n in zip(kernels, norm, strict=True))) + w["skip"] * u
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
        return y @ w["out.weight"].T + w["out.bias"]

    return run


@pytest.mark.parametrize(("max_len", "piece"), [(MAX_LEN, PIECE), (5, 8), (24, 3)])
def test_equals_the_sum_over_pairs(max_len: int, piece: int) -> None:
    for seed, length in enumerate((1, 2, 5, max_len)):
        torch.manual_seed(seed)
        layer = SGConv(DIM, max_len, piece)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, slow(layer), x, masks(length, seed), double=1e-11, single=1e-5)


@pytest.mark.parametrize(("max_len", "piece", "count"), [(50, 8, 4), (64, 8, 4), (65, 8, 5), (8, 8, 1), (3, 8, 1)])
def test_as_many_pieces_as_reach_to_the_end_and_a_norm_of_one(max_len: int, piece: int, count: int) -> None:
    """The norm is that of the whole kernel, before it is cut to max_len."""
    torch.manual_seed(0)
    layer = SGConv(DIM, max_len, piece)
    assert layer.pieces.shape == (2, DIM, count, piece)
    for side, norms in zip(layer.pieces.detach(), layer.norm, strict=True):
        for channel, norm in zip(side, norms, strict=True):
            torch.testing.assert_close(kernel(channel, 10**6).norm(), norm[0])


def test_the_norm_is_a_constant_of_the_state() -> None:
    torch.manual_seed(0)
    layer, other = SGConv(DIM, MAX_LEN, PIECE), SGConv(DIM, MAX_LEN, PIECE)
    x, mask = torch.randn(1, MAX_LEN, DIM), torch.ones(1, MAX_LEN, dtype=torch.bool)
    before = layer.norm.clone()
    layer(x, mask)
    with torch.no_grad():
        layer.pieces.mul_(3)
    assert torch.equal(layer.norm, before) and "norm" in layer.state_dict()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x, mask), layer(x, mask))


def test_nothing_is_seen_beyond_max_len() -> None:
    torch.manual_seed(0)
    layer = SGConv(DIM, 20, PIECE).double()
    x, mask = torch.randn(5, 45, DIM, dtype=torch.float64), masks(45)
    assert_equation(layer, slow(layer), x, mask, single=None, double=1e-11)


def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(SGConv(4, 16_384), 4)


def test_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    assert_shifts(SGConv(DIM, 70, PIECE), DIM)


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    layer = SGConv(300, 256)
    assert_normal(layer.pieces, 1)
    assert_normal(layer.skip, 1)
    assert tagged(layer) == {"pieces": {"rate": 0.1}}
    assert defaults(SGConv) == {"piece": 32, "rate": 0.1}


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: SGConv(dim, max_len, PIECE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"piece": 0}, "model.mixer.piece: 0 is not at least 1"),
        ({"rate": 0.0}, "model.mixer.rate: 0.0 is not above 0"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SGConv(DIM, MAX_LEN, **options)
