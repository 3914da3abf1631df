"""The long convolution against the dense sum over all pairs of positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lra.models.parts.tiles
from lra.check.subject import difference
from lra.models.parts.conv import long_conv, transform_length
from tests.help.compare import assert_same
from tests.help.mixers import saved_bytes
from tests.help.paper import assert_close, results


def dense(x: Tensor, back: Tensor, ahead: Tensor, lag: int) -> Tensor:
    """y_t = sum_{s <= t} a_(t-s) x_s + sum_{s >= t + lag} b_(s-t-lag) x_s, pair by pair."""
    rows = []
    for t in range(x.shape[1]):
        row = torch.zeros_like(x[:, 0])
        for s in range(x.shape[1]):
            if 0 <= t - s < back.shape[1]:
                row = row + back[:, t - s] * x[:, s]
            if 0 <= s - t - lag < ahead.shape[1]:
                row = row + ahead[:, s - t - lag] * x[:, s]
        rows.append(row)
    return torch.stack(rows, 1) + 0 * (back.sum() + ahead.sum())


def drawn(length: int, back: int, ahead: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    shapes = ((3, length, 5), (5, back), (5, ahead))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(
    ("length", "block"),
    [
        *((length, block) for length in (1, 2, 7) for block in (1, 150, 1 << 19)),
        *(pytest.param(33, block, marks=() if block == 150 else pytest.mark.slow) for block in (1, 150, 1 << 19)),
    ],
)
def test_equals_the_sum_over_pairs(length: int, lag: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)
    real = torch.ones(3, length, dtype=torch.bool)
    for taps in ((length, length), (1, 3), (50, 45), (4, 1), (4, 0)):
        inputs = drawn(length, *taps)
        assert_same(lambda *t: long_conv(*t, lag), lambda *t: dense(*t, lag), inputs, real, 2e-6)
        exact = dict(zip("xab", (t.double().requires_grad_() for t in inputs), strict=True))
        found = [results(run(*exact.values(), lag), real[..., None], exact) for run in (long_conv, dense)]
        assert_close(*found, 1e-13)


def test_causal_without_taps_ahead_and_one_step_apart_by_itself() -> None:
    x, back, ahead = drawn(20, 20, 20, torch.float64)
    torch.testing.assert_close(long_conv(x, back), dense(x, back, ahead[:, :0], 1))
    torch.testing.assert_close(long_conv(x, back, ahead), dense(x, back, ahead, 1))


def test_transform_lengths() -> None:
    smooth = sorted(2 * 2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(6))
    for length in range(1, 2000):
        assert transform_length(length) == next(n for n in smooth if n >= 2 * length)


def test_float32_at_16384() -> None:
    inputs = [t.requires_grad_() for t in drawn(16_384, 16_384, 16_384)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    back = torch.randn(3, 16_384, 5, generator=torch.Generator().manual_seed(1))
    pairs = [
        (y.detach(), *torch.autograd.grad(y, given, back.to(y.dtype)))
        for given in (inputs, exact)
        for y in [long_conv(*given)]
    ]
    for ours, theirs in zip(*pairs, strict=True):
        assert difference(ours.double(), theirs) < 2e-6


def test_an_input_beyond_a_tile_is_worked_through_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transform is larger than a buffer, and no more are made than fill it."""
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 4 * 80)
    sizes, inverse = [], torch.fft.irfft
    monkeypatch.setattr(torch.fft, "irfft", lambda s, n: sizes.append(s.shape[:-1]) or inverse(s, n))
    x, back, ahead = drawn(40, 40, 40)
    long_conv(x, back, ahead)
    assert [tuple(s) for s in sizes] == [(1, 4), (1, 4), (1, 4), (1, 1), (1, 1), (1, 1)]
    sizes.clear()
    long_conv(x[..., :2], back[:2], ahead[:2])
    assert [tuple(s) for s in sizes] == [(2, 2), (1, 2)]


def test_keeps_its_input_and_the_taps() -> None:
    x, back, ahead = (t.requires_grad_() for t in drawn(512, 512, 512))
    assert saved_bytes(lambda: long_conv(x, back, ahead)) == 4 * (x.numel() + back.numel() + ahead.numel())


def test_narrow_numbers_are_added_up_in_float32() -> None:
    x, back, ahead = drawn(200, 200, 200)
    x, back = x.bfloat16().requires_grad_(), back.requires_grad_()
    exact = long_conv(x.detach().float(), back.detach(), ahead)
    for context in (torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)):
        with context:
            y = long_conv(x, back, ahead)
            y.backward(torch.ones_like(y))
        assert y.dtype == x.grad.dtype == torch.bfloat16 and back.grad.dtype == torch.float32
        assert torch.equal(y, exact.bfloat16())
