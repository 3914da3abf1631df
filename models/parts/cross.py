"""Attention from one set of vectors to another: softmax(Q K^T / sqrt(E)) V with Q of x, K and V of y."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.softmax import attend


class CrossAttention(MultiHead):
    """x (B or 1, N, D), y (B, M, D), mask (B, M) of y or None if all are real -> (B, N, D). No dropout.

    Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3. What is common to all examples is projected once. What
    stands in y at padding must be a number.
    """

    relations = None  # its keys are others' than its queries

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__(dim, heads, 0, qkv_dim)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        keys = None if mask is None or all_real(mask) else mask[:, None, None, :]
        q, k, v = self.split(self.query(x)), self.split(self.key(y)), self.split(self.value(y))
        return self.out(self.join(attend(q.expand(len(y), -1, -1, -1), k, v, keys, None)))


def learned(count: int, dim: int) -> nn.Parameter:
    """Learned vectors (count, D), Xavier-uniform."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, dim)))
