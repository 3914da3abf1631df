"""Full softmax attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1): the reference line.

Time O(L^2 D). Memory O(L D) where a fused kernel exists (CPU, CUDA), although the time stays
quadratic. No departure from the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.softmax import attend, path


class FullAttention(MultiHead):
    """softmax(Q K^T / sqrt(E)) V over the real keys, by `scaled_dot_product_attention`."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not all_real(mask):
            # A weight of zero does not stop a NaN in the padding.
            x = x.masked_fill(~mask[..., None], 0)
        return super().forward(x, mask)

    def path(self, device: torch.device) -> str:
        """Of `softmax.attend`: "fused" or "blocks"."""
        return path(device, self.dropout)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        keys = None if all_real(mask) else mask[:, None, None, :]
        return attend(q, k, v, keys, self.drops(q))
