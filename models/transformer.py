"""Full softmax attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1): the reference line.

Time O(L^2 D). Memory O(L D) where a fused kernel exists (CPU, CUDA), although the time stays
quadratic. No departure from the paper; `causal` is its decoder's mask (section 3.2.3), and `conv_kernel`, which it
does not have, a convolution of each channel of Q, K and V over neighbours (So et al. 2021, arXiv 2109.08668,
section 4; there causal, here to either side by halves): both to see what a model lacks without them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.parts.heads import MultiHead, all_real, zeroed
from lra.models.parts.softmax import attend, path


class FullAttention(MultiHead):
    """softmax(Q K^T / sqrt(E)) V over the real keys, by `scaled_dot_product_attention`."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # A weight of zero does not stop a NaN in the padding.
        return super().forward(zeroed(x, mask), mask)

    def path(self, device: torch.device) -> str:
        """Of `softmax.attend`: "fused" or "blocks"."""
        return path(device, self.dropout)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        keys = None if all_real(mask) else mask[:, None, None, :]
        return attend(q, k, v, keys, self.drops(q), causal=self.causal)
