"""LION (Afzal et al. 2025, arXiv 2502.16249): linear attention with a decay to both sides, rows of sum 1.

    out_i = sum_j w_ij phi(q_i) phi(k_j) v_j / (sum_j w_ij phi(q_i) phi(k_j) + eps),  phi(x) = (silu(x) + 1/2) / |.|

LION-D, `decay` learned: w_ij = g^|i - j|, one g = sigmoid(a) a head, a from N(0, 1). LION-S, `decay` selective: with
g_t = 1 - sigmoid(w x_t + b) a head, w_ij = g_j ... g_{i-1} for j < i and g_{i+1} ... g_j for j > i: the decay of the
key, never of the query, and 1 where j = i. q is scaled by E^-1/2 and eps is 1e-6, as in the authors' code.

Time O(L E (Q + E)) a head, memory O(L D). Padding has no weight and g = 1: a hole is not there, its neighbours
are neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.decay import two_sided_decay_attention
from lra.models.parts.heads import MultiHead
from lra.models.parts.recurrent import exact, hidden, nothing_at
from lra.models.parts.tiles import wide

DECAYS = ("learned", "selective")
EPS = 1e-6


def phi(x: Tensor) -> Tensor:
    """(silu(x) + 1/2) / |silu(x) + 1/2| along the last dimension, in float32 at least."""
    positive = F.silu(x.to(wide(x.dtype))) + 0.5
    return positive / positive.norm(dim=-1, keepdim=True)


class Lion(MultiHead):
    """LION-D and LION-S; see the module. Raises ValueError if `decay` is neither learned nor selective."""

    def __init__(
        self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, decay: str = "selective"
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if decay not in DECAYS:
            raise ValueError(f"model.mixer.decay: {decay!r} is not one of {', '.join(DECAYS)}")
        self.rate = nn.Parameter(torch.randn(heads)) if decay == "learned" else None
        self.forget = nn.Linear(dim, heads) if decay == "selective" else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, gone = hidden(x, mask)
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.query, self.key, self.value))
        before, after = self.log_decays(x, gone)
        real = nothing_at(gone, torch.ones_like(before))
        v = torch.cat((v, v.new_ones(*v.shape[:-1], 1)), -1)
        y = two_sided_decay_attention(phi(q) * self.head_dim**-0.5, phi(k), v, before, after, real)
        return self.out((y[..., :-1] / (y[..., -1:] + EPS)).flatten(2))

    def state_floats(self, length: int) -> int:
        """To each side the sums over phi(k) v and phi(k)."""
        return 2 * self.heads * self.head_dim * (self.head_dim + 1)

    def log_decays(self, x: Tensor, gone: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of `two_sided_decay_attention`, for what is behind and what is ahead: (B, L, H)."""
        if self.rate is not None:
            rate = F.logsigmoid(self.rate.to(wide(x.dtype)))
            decay = nothing_at(gone, rate.expand(*x.shape[:2], -1))
            return decay, decay
        decay = nothing_at(gone, F.logsigmoid(-exact(self.forget, x)))
        nothing = torch.zeros_like(decay[:, :1])
        return torch.cat((nothing, decay[:, :-1]), 1), torch.cat((decay[:, 1:], nothing), 1)
