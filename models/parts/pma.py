"""Pooling by attention (Lee et al. 2019, arXiv 1810.00825, section 3.2), with one seed vector S.

Z = LN(S + MHA(S, X)),   PMA(X) = LN(Z + relu(W Z))                                      (eq. 6, 7, 11)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.cross import CrossAttention, learned
from lra.models.parts.heads import zeroed


class AttentionPooling(nn.Module):
    """(B, L, D), (B, L) -> (B, D) over the real tokens; of none, what the seed makes of itself."""

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__()
        self.seed = learned(1, dim)
        self.attention, self.feed = CrossAttention(dim, heads, qkv_dim), nn.Linear(dim, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        z = self.norms[0](self.seed + self.attention(self.seed[None], zeroed(x, mask), mask))
        return self.norms[1](z + F.relu(self.feed(z))).squeeze(1)
