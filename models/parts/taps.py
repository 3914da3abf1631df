"""A convolution over a few positions whose taps are another at each of them:

    y_t = sum_j w_tj x_{t + j - K // 2},  j = 0 .. K - 1, a head at a time; x is zero outside the input

(Wu et al. 2019, arXiv 1901.10430, section 3). Time O(L K D), memory O(L (D + H K)): no (L, K, D) of neighbours is made,
in either pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.eager import eager
from lra.models.parts.tiles import wide


class _Taps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        dtype = wide(x.dtype)
        y = x.new_zeros(*taps.shape[:3], x.shape[3], dtype=dtype)
        for j, at, there in _shifts(taps):
            y[:, at].addcmul_(x[:, there].to(dtype), taps[:, at, :, j, None].to(dtype))
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, taps = ctx.saved_tensors
        dtype = wide(x.dtype)
        dx, d_taps = torch.zeros_like(x, dtype=dtype), torch.zeros_like(taps, dtype=dtype)
        for j, at, there in _shifts(taps):
            g = grad[:, at].to(dtype)
            dx[:, there] += (g * taps[:, at, :, j, None].to(dtype)).sum_to_size(dx[:, there].shape)
            d_taps[:, at, :, j] = (g * x[:, there].to(dtype)).sum(-1)
        return dx.to(x.dtype), d_taps.to(taps.dtype)


def _shifts(taps: Tensor) -> list[tuple[int, slice, slice]]:
    """Of each tap that reaches anything: its number, the positions that have it, and those that they see with it."""
    length, count = taps.shape[1], taps.shape[3]
    out = []
    for j in range(count):
        lag = j - count // 2
        if abs(lag) < length:
            at = slice(max(0, -lag), min(length, length - lag))
            out.append((j, at, slice(at.start + lag, at.stop + lag)))
    return out


@eager
def tapped(x: Tensor, taps: Tensor) -> Tensor:
    """x (B, L, H or 1, P), zero at padding, taps (B, L, H, K) -> (B, L, H, P)."""
    return _Taps.apply(x, taps)
