"""A short convolution: each channel by itself, over the last few positions, then SiLU.

    y_t = silu( b + sum_i w_i x_{t - i} ),  i = 0 .. K - 1           (x_{t + i} in the other direction)

with x = 0 outside the input (Dao and Gu 2024, arXiv 2405.21060, section 7), for recurrent mixers. Attention has it
without the SiLU (So et al. 2021, arXiv 2109.08668, section 4): `BothWays`. Time O(L D K), memory O(L D): x alone
is kept for the backward pass. As a sum of shifted copies, because torch's kernel for it is slow on CPUs, and in bf16
does not come back on some. In float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lra.models.parts.tiles import wide


class _ShortConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool, silu: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.options = reverse, silu
        y = _slide(x, weight, reverse)
        if bias is not None:
            y += bias
        return (torch.nn.functional.silu(y, inplace=True) if silu else y).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight, bias = ctx.saved_tensors
        reverse, silu = ctx.options
        seen, taps = x.to(wide(x.dtype)), []
        d = grad.to(seen.dtype)
        if silu:
            y = _slide(x, weight, reverse)
            if bias is not None:
                y += bias
            d = torch.ops.aten.silu_backward(d, y)
        for lag in range(weight.shape[1]):
            near, far = _apart(d, seen, lag, reverse)
            taps.append((near * far).sum((0, 1)))
        d_bias = None if bias is None else d.sum((0, 1)).to(bias.dtype)
        dx = _slide(d, weight, not reverse).to(x.dtype)
        return dx, torch.stack(taps, 1).to(weight.dtype), d_bias, None, None


def _apart(near: Tensor, far: Tensor, lag: int, reverse: bool) -> tuple[Tensor, Tensor]:
    """The positions t of the one and t - lag of the other, t + lag if `reverse`."""
    count = max(near.shape[1] - lag, 0)
    if reverse:
        return near[:, :count], far[:, lag:]
    return near[:, lag:], far[:, :count]


def _slide(x: Tensor, weight: Tensor, reverse: bool) -> Tensor:
    """x (B, L, D), weight (D, K) -> sum_i w_i x_{t - i} or x_{t + i}."""
    x = x.to(wide(x.dtype))
    taps = weight.to(x.dtype).unbind(1)
    y = x * taps[0]
    for lag, tap in enumerate(taps[1:], 1):
        near, far = _apart(y, x, lag, reverse)
        near.addcmul_(far, tap)
    return y


class ShortConv(nn.Module):
    """(B, L, D) -> (B, L, D) as above, without the SiLU if `silu` is off; x is zero at padding. Initial values are
    those of torch's convolutions, uniform within K^-1/2.

    A hole keeps its distance. Raises ValueError if `taps` is below 1.
    """

    def __init__(self, dim: int, taps: int = 4, bias: bool = False, reverse: bool = False, silu: bool = True) -> None:
        super().__init__()
        if taps < 1:
            raise ValueError(f"model.mixer.conv_kernel: {taps} is not above 0, or null")
        self.reverse, self.silu = reverse, silu
        self.weight = nn.Parameter(torch.empty(dim, taps).uniform_(-(taps**-0.5), taps**-0.5))
        self.bias = nn.Parameter(torch.empty(dim).uniform_(-(taps**-0.5), taps**-0.5)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return _ShortConv.apply(x, self.weight, self.bias, self.reverse, self.silu)


def centred_conv(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, L, D), zero at padding, weight (D, K), K odd -> sum_j w_j x_{t + j - K // 2}, (B, L, D).

    It is the convolution above of what comes K // 2 positions later.
    """
    half = weight.shape[1] // 2
    later = torch.nn.functional.pad(x, (0, 0, 0, half))
    return _ShortConv.apply(later, weight.flip(1), None, False, False)[:, half:]


def odd_kernel(field: str, kernel: int) -> int:
    """The kernel; ValueError if it has no middle."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"model.mixer.{field}: {kernel} is not odd and above 0")
    return kernel


class BothWays(nn.Module):
    """(B, L, D) -> (B, L, D): the first half of the channels looks back, the second ahead, without SiLU.

    So do the mixers that run both ways, half of their heads each; `causal`: all channels look back.
    """

    def __init__(self, dim: int, taps: int, causal: bool = False) -> None:
        super().__init__()
        self.sizes = [dim] if causal else [dim - dim // 2, dim // 2]
        self.ways = nn.ModuleList(
            ShortConv(size, taps, reverse=reverse, silu=False)
            for size, reverse in zip(self.sizes, (False, True), strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(part) for conv, part in zip(self.ways, x.split(self.sizes, -1), strict=True)], -1)
