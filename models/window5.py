"""Window of five: the control that sees two tokens to either side, and no further however many layers there are.

    y_i = W_2 gelu(W_1 [x'_{i-2}; x'_{i-1}; x'_i; x'_{i+1}; x'_{i+2}] + b_1) + b_2       in the first layer
    y_i = x_i                                                                            in all others

x' is x with a last channel of 1, and all zeros outside of the input and at padding, so that what is absent is told from
a token. Five-tap mixers in every layer would see two more on either side with each; here the first alone mixes, and the
others leave their feed-forward layers to what it has put together. Nothing of the five is summed before the GELU,
whose 5 D units are as wide as what they see, so that rules that need all of them together can be learnt.

Time O(L D^2), memory O(L D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import zeroed

REACH = 2
SIGHT = 2 * REACH + 1


class Window5(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D), zeros where there is padding. A hole keeps its distance."""

    def __init__(self, dim: int, layer: int = 0) -> None:
        super().__init__()
        self.inner = self.outer = None
        if layer == 0:
            self.inner, self.outer = nn.Linear(SIGHT * (dim + 1), SIGHT * dim), nn.Linear(SIGHT * dim, dim)
            for each in (self.inner, self.outer):
                nn.init.xavier_uniform_(each.weight)
                nn.init.zeros_(each.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        if self.inner is None:
            return x
        marked = torch.cat((x, mask.unsqueeze(-1).to(x.dtype)), -1)
        sight = F.pad(marked, (0, 0, REACH, REACH)).unfold(1, SIGHT, 1).mT.flatten(2)
        return zeroed(self.outer(F.gelu(self.inner(sight), approximate="tanh")), mask)

    def state_floats(self, length: int) -> int:
        """The tokens to either side."""
        return 0 if self.outer is None else 2 * REACH * self.outer.out_features
