"""Long convolutions in which every tap is a parameter (Fu et al. 2023, arXiv 2302.06646).

    K = sign(W) relu(|W| - squash),   y = K * u + d u,   out = GLU(V gelu(y) + b)

W has max_len taps a channel for the past and as many for the future, which starts one step ahead. What is smaller
than `squash` is no tap, and neither learns nor decays: that makes a kernel sparse, and the model a control without
any prior about distances. W starts normal with deviation 0.002, of which the default leaves one tap in eight; d normal.

Time O(L log L D), memory O(L D), 2 max_len D parameters. A hole in the mask keeps the distance across it. Beyond
max_len there are no taps.

Departures: two-sided, one kernel a side (the official code has two of each, and is one-sided on most tasks); no
dropout of taps; a mixer of the common stack, with a feed-forward layer after it. At budget=published it stands in the
block of its authors, without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.conv import long_conv, with_skip
from lra.models.parts.heads import zeroed
from lra.models.parts.modes import slow
from lra.models.parts.tiles import wide


class LongConv(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    squash: see above. rate: ratio of the learning rate of the taps to that of the others; they have no weight decay.

    Raises ValueError for a negative squash or a rate not above 0.
    """

    def __init__(self, dim: int, max_len: int, squash: float = 0.003, rate: float = 0.1) -> None:
        super().__init__()
        if squash < 0:
            raise ValueError(f"model.mixer.squash: {squash} is below 0")
        if rate <= 0:
            raise ValueError(f"model.mixer.rate: {rate} is not above 0")
        self.squash = squash
        self.taps = slow(torch.randn(2, dim, max_len) * 0.002, rate)
        self.skip = nn.Parameter(torch.randn(dim))
        self.out = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        back, ahead = F.softshrink(self.taps[..., : x.shape[1]].to(wide(x.dtype)), self.squash)
        return F.glu(self.out(F.gelu(long_conv(zeroed(x, mask), with_skip(back, self.skip), ahead))), dim=-1)

    def state_floats(self, length: int) -> int:
        """All that came in: the taps have no recurrence."""
        return self.out.in_features * length
