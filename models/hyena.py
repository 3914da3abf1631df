"""Hyena: a long convolution between two gates, its taps a network's answer to the lag (Poli et al. 2023, arXiv
2302.10866).

    x0, x1, v = conv3(W u + b)                              of each channel by itself
    y = W_o (x0 * (h * (x1 v) + d x1 v)) + b_o              the order is 2

    h_c(l) = MLP([t, cos f t', -sin f t']) exp(-|delta_c| t),   t = l / (max_len - 1), t' = 2 pi l / max_len

with `bands` frequencies f up to bands - 1 and sin(w x) for activation, its frequencies w learned, 1 at the start and
common to all layers of the MLP. delta goes over the channels from ln(100) / 1.5 to ln(100) / 0.3, so that a
channel's taps have faded to a hundredth at 1.5 to 0.3 times max_len.

Published causal. Here there is a filter for the past and one for the future from the same MLP, both with the
present, and the convolution of three is centred. Time O(L log L D), memory O(L D). A hole in the mask keeps the
distance across it. Beyond max_len there are no taps.

Departures: two-sided; the features of the lag are fixed, where the official code lets them learn at a rate of 1e-5.
The filter's parameters have no weight decay.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.conv import long_conv, with_skip
from lra.models.parts.heads import zeroed
from lra.models.parts.tiles import no_autocast, wide

TARGET, SLOW, FAST = 0.01, 1.5, 0.3  # of a window: what is left of it, at which share of max_len


class Hyena(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    bands: frequencies of the lag that the filter's network sees. width: of its hidden layers.

    Raises ValueError for bands or a width below 1.
    """

    def __init__(self, dim: int, max_len: int, bands: int = 16, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, 3 * dim)
        self.short = nn.Conv1d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim)
        self.filter = Filter(dim, max_len, bands, width)
        self.skip = nn.Parameter(torch.randn(dim))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # The biases of the projection and of the short convolution would fill the padding.
        u = zeroed(self.enter(zeroed(x, mask)), mask)
        outer, inner, value = self.short(u.mT).mT.chunk(3, dim=-1)
        back, ahead = self.filter(x.shape[1], wide(x.dtype))
        y = long_conv(zeroed(inner * value, mask), with_skip(back, self.skip), ahead, lag=0)
        return self.out(outer * y)

    def state_floats(self, length: int) -> int:
        """All that came in: the taps have no recurrence."""
        return self.out.in_features * length


class Filter(nn.Module):
    """Taps of both directions for the first L lags, (2, D, L)."""

    def __init__(self, dim: int, max_len: int, bands: int, width: int) -> None:
        super().__init__()
        for name, value in (("bands", bands), ("width", width)):
            if value < 1:
                raise ValueError(f"model.mixer.{name}: {value} is not at least 1")
        self.max_len, self.bands = max_len, bands
        sizes = (2 * bands + 1, width, width, width)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.frequency = nn.Parameter(torch.ones(width))
        self.last = nn.Linear(width, 2 * dim, bias=False)
        for parameter in self.parameters():
            parameter.lra = {"decay": 0.0}

    def forward(self, length: int, dtype: torch.dtype) -> Tensor:
        weight = self.last.weight
        with no_autocast(weight):
            lags = torch.arange(min(length, self.max_len), device=weight.device, dtype=torch.float64)
            h = self.features(lags).to(dtype)
            for layer in self.layers:
                h = torch.sin(self.frequency.to(dtype) * F.linear(h, layer.weight.to(dtype), layer.bias.to(dtype)))
            taps = F.linear(h, weight.to(dtype)).T.unflatten(0, (2, -1))
            ends = (-math.log(TARGET) / SLOW, -math.log(TARGET) / FAST)
            fade = torch.linspace(*ends, taps.shape[1], device=weight.device, dtype=dtype)
            return taps * torch.exp(-fade[:, None] * (lags / max(1, self.max_len - 1)).to(dtype))

    def features(self, lags: Tensor) -> Tensor:
        """(L,) -> (L, 2 bands + 1), in float64: an angle of many turns has no digits to spare."""
        f = torch.linspace(1e-4, self.bands - 1, self.bands, device=lags.device, dtype=lags.dtype)
        angle = 2 * math.pi / self.max_len * lags[:, None] * f
        return torch.cat((lags[:, None] / max(1, self.max_len - 1), angle.cos(), -angle.sin()), dim=-1)
