"""Hamburger (Geng et al. 2021, arXiv 2109.04553): global mixing as a non-negative matrix factorisation of the input.

    X = relu(W_l x)  (L x d),   X ~ C B^T  with C (L x r), B (d x r) >= 0
    C <- C * (X B) / (C B^T B + eps),   B <- B * (X^T C) / (B C^T C + eps)      `steps` times
    C <- C * (X B) / (C B^T B + eps),   out = W_u (C B^T)

from C = softmax over the rank of X B_0. Only the last step has a gradient. It knows no order. A position
that is padding has X = 0, and C = 0 after the first step. Time O(L d r steps), memory O(L (d + r)); d is `qkv_dim`.

Departures from the paper: B_0 is drawn once, at construction, where its code draws it in every forward pass, in
evaluation too; `steps` is the same in evaluation, where its code takes one more; no norm behind W_u.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import zeroed
from lra.models.parts.tiles import no_autocast, wide

EPS = 1e-6


class Hamburger(nn.Module):
    """Matrix factorisation as a mixer; see the module. Raises ValueError for a rank or steps below 1."""

    def __init__(self, dim: int, qkv_dim: int | None = None, rank: int = 64, steps: int = 6) -> None:
        super().__init__()
        for field, value in (("rank", rank), ("steps", steps)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        width = qkv_dim or dim
        self.steps = steps
        self.lower, self.upper = nn.Linear(dim, width), nn.Linear(width, dim, bias=False)
        for layer in (self.lower, self.upper):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.lower.bias)
        self.register_buffer("bases", F.normalize(torch.rand(width, rank), dim=0))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(F.relu(self.lower(zeroed(x, mask))), mask)
        with no_autocast(x):
            flat = x.to(wide(x.dtype))
            with torch.no_grad():
                bases = self.bases.to(flat.dtype).expand(len(x), -1, -1)
                codes = (flat @ bases).softmax(-1)
                for _ in range(self.steps):
                    codes = nearer(codes, flat, bases)
                    bases = nearer(bases, flat.mT, codes)
            made = nearer(codes, flat, bases) @ bases.mT
        return self.upper(made.to(x.dtype))


def nearer(codes: Tensor, x: Tensor, bases: Tensor) -> Tensor:
    """One multiplicative update (Lee and Seung 2000) of codes (B, N, r) in x (B, N, M) ~ codes bases^T, (B, M, r)."""
    return codes * (x @ bases) / (codes @ (bases.mT @ bases) + EPS)
