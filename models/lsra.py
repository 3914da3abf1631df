"""Long-short range attention (Wu et al. 2020, arXiv 2004.11886, section 4), around any mixer.

    out = [ mixer(x_1), W_o (softmax(w) conv (W_i x_2)) ],   x = [x_1, x_2], half of the channels each

The second half goes through a lightweight convolution (Wu et al. 2019, arXiv 1901.10430): the `kernels`[layer] taps of
a head, whose softmax is taken, are common to its channels; layers beyond the list have its last. What mixes the halves
is the feed-forward layer behind them, which the paper makes no wider than D. Time and memory are those of the mixer at
half of the width, and O(L K D). A hole keeps its distance.

Departures from the paper: none known; as in its translation runs, there is no gate in front of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lra.models.parts.factory import build
from lra.models.parts.heads import zeroed
from lra.models.parts.short_conv import centred_conv, odd_kernel


class LSRA(nn.Module):
    """Half of the channels to a mixer, half to a convolution; see the module.

    of: factory of the mixer, which is handed the facts of one of half the width, and the same number of heads.
    Raises ValueError for odd widths, a number of heads that does not divide half of D, and kernels that are not odd.
    """

    def __init__(
        self,
        of: Callable[..., nn.Module],
        dim: int,
        heads: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        layer: int = 0,
        kernels: Sequence[int] = (3, 7, 15, 31),
        **facts: Any,
    ) -> None:
        super().__init__()
        width = qkv_dim or dim
        if heads < 1 or dim % (2 * heads) or width % 2:
            raise ValueError(
                f"size.heads: twice {heads} does not divide the width {dim}, of which each branch has half"
            )
        if not kernels:
            raise ValueError("model.mixer.kernels: a layer needs one at least")
        taps = odd_kernel("kernels", kernels[min(layer, len(kernels) - 1)])
        self.heads, half = heads, dim // 2
        self.mixer = build(of, dim=half, heads=heads, qkv_dim=width // 2, rotary=rotary, layer=layer, **facts)
        self.into, self.out = nn.Linear(half, half), nn.Linear(half, half)
        for each in (self.into, self.out):
            nn.init.xavier_uniform_(each.weight)
            nn.init.zeros_(each.bias)
        self.taps = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, taps)))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        far, near = zeroed(x, mask).chunk(2, -1)
        taps = self.taps.softmax(-1).repeat_interleave(near.shape[-1] // self.heads, 0)
        near = self.out(centred_conv(zeroed(self.into(near), mask), taps))
        return torch.cat((self.mixer(far, mask), near), -1)
