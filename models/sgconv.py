"""SGConv: a global kernel from few numbers, whose taps decay with their distance (Li et al. 2022, arXiv 2210.09298).

A kernel is J pieces of k numbers a channel, stretched to k, k, 2 k, 4 k, ... taps by linear interpolation, weighted
by 2^(J-1-i), one after the other from lag 0, until max_len is reached: J = 1 + ceil(log2(max_len / k)). It is divided
by its own norm at the start, a constant from then on. Then

    y = K * u + d u,   out = W gelu(y) + b

with one kernel for the past and one for the future, which starts one step ahead. Pieces and d start normal.

Time O(L log L D), memory O(L D), J k D parameters a direction. A hole in the mask keeps the distance across it.
Beyond max_len there are no taps.

Departures: the norm is computed when the layer is built, where the official code computes it in the first forward
pass; at the end of a shorter input a piece is cut, not interpolated anew; the published blocks have BatchNorm and no
feed-forward layer, here the layer is a mixer of the common stack.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.conv import long_conv, with_skip
from lra.models.parts.heads import zeroed
from lra.models.parts.tiles import wide


class SGConv(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    piece: k. rate: ratio of the learning rate of the pieces to that of the others.

    Raises ValueError for a piece below 1 or a rate not above 0.
    """

    def __init__(self, dim: int, max_len: int, piece: int = 32, rate: float = 0.1) -> None:
        super().__init__()
        if piece < 1:
            raise ValueError(f"model.mixer.piece: {piece} is not at least 1")
        if rate <= 0:
            raise ValueError(f"model.mixer.rate: {rate} is not above 0")
        self.max_len = max_len
        count = 1 + max(0, math.ceil(math.log2(max_len / piece)))
        self.pieces = nn.Parameter(torch.randn(2, dim, count, piece))
        self.pieces.lra = {"rate": rate}
        self.skip = nn.Parameter(torch.randn(dim))
        self.out = nn.Linear(dim, dim)
        with torch.no_grad():
            whole = stretched(self.pieces, piece * 2 ** (count - 1))
        self.register_buffer("norm", whole.norm(dim=-1, keepdim=True))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        dtype = wide(x.dtype)
        back, ahead = stretched(self.pieces.to(dtype), min(x.shape[1], self.max_len)) / self.norm.to(dtype)
        return self.out(F.gelu(long_conv(zeroed(x, mask), with_skip(back, self.skip), ahead)))

    def state_floats(self, length: int) -> int:
        """All that came in: the taps have no recurrence."""
        return self.out.in_features * length


def stretched(pieces: Tensor, length: int) -> Tensor:
    """The first `length` taps of the kernels of pieces (2, D, J, k): (2, D, length)."""
    count, width = pieces.shape[2:]
    taps, reached = [], 0
    for i in range(count):
        if reached < length:
            factor = 2 ** max(0, i - 1)
            weighted = pieces[:, :, i] * 2.0 ** (count - 1 - i)
            taps.append(weighted if factor == 1 else F.interpolate(weighted, scale_factor=factor, mode="linear"))
            reached += factor * width
    return torch.cat(taps, dim=-1)[..., :length]
