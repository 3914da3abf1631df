"""Fastformer (Wu et al. 2021, arXiv 2108.09084): additive attention, twice, in place of all pairs.

    a_t = softmax_t(w_q . q_t / sqrt(E)),  g = sum_t a_t q_t,   p_t = k_t * g                  (section 3)
    b_t = softmax_t(w_k . p_t / sqrt(E)),  h = sum_t b_t p_t,   out = W_o (W_r (h * q_t) + q_t)

a head at a time, W_r over all of them; values and queries are one projection, as in the paper. It knows the order by
the positions in its input alone. Time O(L D^2) for the projections and O(L D) for the rest, memory O(L D). Padding has
no weight in either softmax.

Departures from the paper: none. From the official code: there w_q and w_k of a head read all heads, not their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.heads import real_softmax, zeroed


class Fastformer(nn.Module):
    """Additive attention; see the module. Raises ValueError if `qkv_dim` is not a multiple of `heads`."""

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__()
        width = qkv_dim or dim
        if heads < 1 or width % heads:
            raise ValueError(f"size.heads: {heads} does not divide qkv_dim {width}")
        self.heads = heads
        self.query, self.key = nn.Linear(dim, width, bias=False), nn.Linear(dim, width, bias=False)
        self.mix, self.out = nn.Linear(width, width), nn.Linear(width, dim, bias=False)
        for layer in (self.query, self.key, self.mix, self.out):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.mix.bias)
        self.query_weight = nn.Parameter(torch.randn(heads, width // heads) * 0.02)
        self.key_weight = nn.Parameter(torch.randn(heads, width // heads) * 0.02)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        q, k = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.query, self.key))
        g = self._summary(q, self.query_weight.expand(len(x), -1, -1), mask)
        h = g * self._summary(k, self.key_weight * g, mask)  # sum_t b_t (k_t * g), p is never there
        return self.out(self.mix((q * h.unsqueeze(1)).flatten(2)) + q.flatten(2))

    @staticmethod
    def _summary(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, H, E), weight (B, H, E) -> the sum of x by the softmax of its scores, (B, H, E)."""
        scores = torch.einsum("blhe,bhe->blh", x, weight) * x.shape[-1] ** -0.5
        return torch.einsum("blh,blhe->bhe", real_softmax(scores, mask).to(x.dtype), x)
