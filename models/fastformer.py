"""Fastformer (Wu et al. 2021, arXiv 2108.09084): additive attention, twice, in place of all pairs.

    a_t = softmax_t(w_q . q_t / sqrt(E)),  g = sum_t a_t q_t,   p_t = k_t * g                  (section 3)
    b_t = softmax_t(w_k . p_t / sqrt(E)),  h = sum_t b_t p_t,   out = W_o (W_r (h * q_t) + q_t)

a head at a time, W_r over all of them; values and queries are one projection, as in the paper. It knows the order by
the positions in its input alone. Time O(L D^2 + D^3) for the projections and O(L D) for the rest, memory O(L D + D^2).
Padding has no weight in either softmax.

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
        """All but the softmaxes is linear in x, so that queries and keys of L positions are never made: what they are
        multiplied by goes through their weights, and what an example's output takes is one matrix, (B, D, D)."""
        x = zeroed(x, mask)
        query, key = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.query, self.key))  # (H, E, D)
        g = self._summary(x, query, self.query_weight[None], mask)
        h = g * self._summary(x, key, self.key_weight * g, mask)  # sum_t b_t (k_t * g), p is never there
        mixed = self.mix.weight * h.flatten(1).unsqueeze(1) + torch.eye(h[0].numel(), dtype=h.dtype, device=h.device)
        whole = self.out.weight @ mixed @ self.query.weight
        return x @ whole.mT + self.out(self.mix.bias)

    @staticmethod
    def _summary(x: Tensor, projection: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """Of y = x projection^T, projection (H, E, D), and weight (B or 1, H, E): the sum of y by the softmax of its
        scores, (B, H, E)."""
        toward = torch.einsum("bhe,hed->bdh", weight, projection) * weight.shape[-1] ** -0.5
        scores = real_softmax(x @ toward, mask).to(x.dtype)
        return torch.einsum("bhd,hed->bhe", scores.mT @ x, projection)
