"""The short convolution alone, as the control of models that have one: what a token knows by its neighbours only.

    out = W_o conv(W_v x)

conv is the one that attention may have behind its values (`parts.short_conv.BothWays`, So et al. 2021, arXiv
2109.08668): half of the channels look back, half ahead. It is what `conv_kernel` leaves of attention in which a token
attends to itself. Time O(L (D + kernel) D), memory O(L D). A hole keeps its distance.
"""

from __future__ import annotations

from torch import Tensor, nn

from lra.models.parts.heads import zeroed
from lra.models.parts.short_conv import BothWays


class ShortConvolution(nn.Module):
    """`conv_kernel` taps, the present one among them; see the module. Raises ValueError if that is below 1."""

    def __init__(self, dim: int, qkv_dim: int | None = None, conv_kernel: int = 3) -> None:
        super().__init__()
        width = qkv_dim or dim
        self.value, self.out = nn.Linear(dim, width, bias=False), nn.Linear(width, dim, bias=False)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
        self.conv = BothWays(width, conv_kernel)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.conv(self.value(zeroed(x, mask))))
