"""Attention from one set of vectors to another: softmax(Q K^T / sqrt(E)) V with Q of x, K and V of y."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real, real_softmax
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
        # Up to as many vectors as a head is wide, all heads' together are no more work than one projection.
        if x.shape[1] <= self.head_dim:
            return self._of_few(x, y, y.new_ones(y.shape[:2], dtype=torch.bool) if mask is None else mask)
        keys = None if mask is None or all_real(mask) else mask[:, None, None, :]
        if keys is None and y.shape[1] <= self.head_dim:
            return self._to_few(x, y)
        q, k, v = self.split(self.query(x)), self.split(self.key(y)), self.split(self.value(y))
        return self.out(self.join(attend(q.expand(len(y), -1, -1, -1), k, v, keys, None)))

    def _of_few(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Queries of all heads go through the keys' weights and meet y itself: what is made of y's many positions is a
        product with N vectors a head, and not with a matrix."""
        key, value = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.key, self.value))  # (H, E, D)
        q = torch.einsum("bhne,hed->bhnd", self.split(self.query(x)), key).flatten(1, 2) * self.head_dim**-0.5
        weights = real_softmax(y @ q.mT, mask).to(y.dtype)
        seen = (weights.mT @ y).unflatten(1, (self.heads, -1))
        return self.out(self.join(torch.einsum("bhnd,hed->bhne", seen, value)))

    def _to_few(self, x: Tensor, y: Tensor) -> Tensor:
        """The other way keys go through the queries' weights, and values through those of the output."""
        k, v = self.split(self.key(y)), self.split(self.value(y))
        query, out = self.query.weight.unflatten(0, (self.heads, -1)), self.out.weight.unflatten(1, (self.heads, -1))
        k = torch.einsum("bhme,hed->bhmd", k, query).flatten(1, 2) * self.head_dim**-0.5
        v = torch.einsum("bhme,dhe->bhmd", v, out).flatten(1, 2)
        weights = (x @ k.mT).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(-2)
        return weights.to(v.dtype) @ v


def learned(count: int, dim: int) -> nn.Parameter:
    """Learned vectors (count, D), Xavier-uniform."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(count, dim)))
