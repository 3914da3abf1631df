"""Convolution along the whole length, to both sides, by FFT.

    y_t = sum_{s <= t} a_(t-s) x_s + sum_{s >= t + lag} b_(s-t-lag) x_s

a (D, K) reaches back, b (D, K') ahead, each channel has taps of its own. With lag = 1 the two kernels share no
tap, with lag = 0 both have one for s = t. Taps that no input of this length can reach are left out, so that
the length of an input has no say in what a tap means.

Both lie in one circular buffer of n >= 2 L numbers, b reversed at its end, where nothing wraps around onto a
real position. Time O(L log L D); the backward pass transforms again instead of keeping spectra, so what stays
is x and the taps. The transforms are in float32 at least.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.tiles import budget, no_autocast, wide


def long_conv(x: Tensor, back: Tensor, ahead: Tensor | None = None, lag: int = 1) -> Tensor:
    """x (B, L, D), back (D, K) from lag 0 on, ahead (D, K') from `lag`, 0 or 1, on -> (B, L, D).

    Without `ahead` it is causal. Padding must be zero in x already.
    """
    return _LongConv.apply(x, back, back[:, :0] if ahead is None else ahead, lag)


def with_skip(back: Tensor, skip: Tensor) -> Tensor:
    """Taps (D, K) to which skip (D,), which scales the present, is added at lag 0."""
    return torch.cat((back[:, :1] + skip.to(back.dtype)[:, None], back[:, 1:]), dim=1)


def transform_length(length: int) -> int:
    """The least even n >= 2 L without prime factors above 5, which is what FFTs are fast at."""
    half = length
    while True:
        rest = half
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return 2 * half
        half += 1


class _LongConv(torch.autograd.Function):
    """A tile of channels and examples at a time; spectra are (b, c, n / 2 + 1)."""

    @staticmethod
    def forward(ctx, x: Tensor, back: Tensor, ahead: Tensor, lag: int) -> Tensor:
        ctx.save_for_backward(x, back, ahead)
        ctx.lag, length = lag, x.shape[1]
        n, dtype = transform_length(length), wide(x.dtype)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        with no_autocast(x):
            for channels, examples in _tiles(x, n):
                taps = torch.fft.rfft(_buffer(back[channels], ahead[channels], lag, length, n, dtype))
                for some in examples:
                    _write(y, some, channels, _spectrum(x, some, channels, n).mul_(taps), n)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        (x, back, ahead), lag = ctx.saved_tensors, ctx.lag
        n, dtype = transform_length(x.shape[1]), wide(x.dtype)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        d_back, d_ahead = torch.zeros_like(back, dtype=dtype), torch.zeros_like(ahead, dtype=dtype)
        with no_autocast(x):
            for channels, examples in _tiles(x, n):
                taps = torch.fft.rfft(_buffer(back[channels], ahead[channels], lag, x.shape[1], n, dtype))
                d_taps = torch.zeros_like(taps)
                for some in examples:
                    g = _spectrum(grad, some, channels, n)
                    d_taps += (_spectrum(x, some, channels, n).conj() * g).sum(0)
                    _write(dx, some, channels, g.mul_(taps.conj()), n)
                d_buffer = torch.fft.irfft(d_taps, n)
                _put_taps(d_back[channels], d_buffer, 0, x.shape[1])
                _put_taps(d_ahead[channels], _reverse(d_buffer), lag, x.shape[1])
        return dx, d_back.to(back.dtype), d_ahead.to(ahead.dtype), None


def _tiles(x: Tensor, n: int) -> Iterator[tuple[slice, list[slice]]]:
    """Channels, and the examples to take together with them, so that a tile of n numbers a row fits a buffer."""
    rows = max(1, budget(x.device) // n)
    examples, _, channels = x.shape
    wide_ = min(channels, rows)
    together = min(examples, max(1, rows // wide_))
    some = [slice(start, start + together) for start in range(0, examples, together)]
    for start in range(0, channels, wide_):
        yield slice(start, start + wide_), some


def _spectrum(x: Tensor, some: slice, channels: slice, n: int) -> Tensor:
    """A tile of x (B, L, D) -> (b, c, n / 2 + 1)."""
    return torch.fft.rfft(x[some, :, channels].mT.to(wide(x.dtype)), n)


def _write(y: Tensor, some: slice, channels: slice, spectrum: Tensor, n: int) -> None:
    """Back to positions, into the tile of y (B, L, D)."""
    y[some, :, channels] = torch.fft.irfft(spectrum, n)[..., : y.shape[1]].mT


def _buffer(back: Tensor, ahead: Tensor, lag: int, length: int, n: int, dtype: torch.dtype) -> Tensor:
    """Both kernels in one circle of n taps, (D, n)."""
    return _placed(back.to(dtype), 0, length, n) + _reverse(_placed(ahead.to(dtype), lag, length, n))


def _placed(taps: Tensor, lag: int, length: int, n: int) -> Tensor:
    """Taps (D, K) at lag, lag + 1, ... below L, zeros elsewhere: (D, n)."""
    taps = taps[:, : max(0, length - lag)]
    return F.pad(taps, (lag, n - lag - taps.shape[1]))


def _reverse(circle: Tensor) -> Tensor:
    """Index i of a circle (D, n) becomes -i."""
    return circle.flip(-1).roll(1, -1)


def _put_taps(d_taps: Tensor, d_circle: Tensor, lag: int, length: int) -> None:
    """The gradient of what `_placed` was given; those out of reach keep their zero."""
    count = min(d_taps.shape[1], max(0, length - lag))
    d_taps[:, :count] = d_circle[:, lag : lag + count]
