"""MLP-Mixer along the length: the same two-layer network over the positions of every channel (Tolstikhin et al. 2021,
arXiv 2105.01601, eq. 1).

    y = W_2 gelu(W_1 x + b_1) + b_2,   W_1 (hidden, max_len), W_2 (max_len, hidden)

Weights belong to positions, and a shorter input uses the first L columns and rows: padding, which is zero, adds
nothing. A hole in the mask keeps the distance across it.

Time O(L hidden D), memory O(L D), about 2 max_len hidden parameters a layer. Departures: the network over the width
is the feed-forward layer of the common stack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import zeroed


class MLPMixer(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    Raises ValueError for a hidden width below 1 and, in `forward`, for L above `max_len`.
    """

    def __init__(self, max_len: int, hidden: int = 256) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"model.mixer.hidden: {hidden} is not at least 1")
        self.max_len = max_len
        self.inner, self.outer = nn.Linear(max_len, hidden), nn.Linear(hidden, max_len)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        length = x.shape[1]
        if length > self.max_len:
            raise ValueError(f"length {length} is above the {self.max_len} positions that are learned")
        h = torch.matmul(self.inner.weight[:, :length], zeroed(x, mask)) + self.inner.bias[:, None]
        return torch.matmul(self.outer.weight[:length], F.gelu(h)) + self.outer.bias[:length, None]
