"""SAN-M's memory block (Gao et al. 2020, arXiv 2006.01713) beside any mixer.

    out = mixer(x) + v + conv(v)

conv is a depthwise convolution of `kernel` taps, as many to either side, without a bias. v are the mixer's values,
W_v x, where it has a projection of that name and width D, or else x itself. Time O(L kernel D) besides the mixer's and,
for values, one projection. Padding is zero before and after; a hole keeps its distance.

Departures from the paper: none; there the mixer is full attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lra.models.parts.factory import build
from lra.models.parts.heads import zeroed
from lra.models.parts.short_conv import centred_conv, odd_kernel


class SANM(nn.Module):
    """A mixer, of the factory `of`, and a memory block; see the module. Raises ValueError if `kernel` is not odd."""

    def __init__(
        self, of: Callable[..., nn.Module], dim: int, rotary: bool = False, kernel: int = 11, **facts: Any
    ) -> None:
        super().__init__()
        bound = odd_kernel("kernel", kernel) ** -0.5
        self.mixer = build(of, dim=dim, rotary=rotary, **facts)
        self.taps = nn.Parameter(torch.empty(dim, kernel).uniform_(-bound, bound))
        value = getattr(self.mixer, "value", None)
        self.exposes = isinstance(value, nn.Linear) and value.out_features == dim

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        v = zeroed(self.mixer.value(x), mask) if self.exposes else x
        return self.mixer(x, mask) + zeroed(v + centred_conv(v, self.taps), mask)
