"""Learned queries that ask an encoder's states for a set of things (Carion et al. 2020, arXiv 2005.12872), its decoder.

    z = z + MHA(LN z, LN z),   z = z + MHA(LN z, X) over the real tokens,   z = z + W_2 relu(W_1 LN z)

Of each layer and query are read: two numbers for "thing" and "nothing", and where it is, a row and a column in (0, 1).
Nothing but the loss knows what a row is: the encoder stays one of sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.cross import CrossAttention, learned
from lra.models.parts.heads import zeroed

QUERIES, LAYERS, READ = 4, 2, 4


class Layer(nn.Module):
    """z (B, Q, D), x (B, L, D), mask (B, L) -> (B, Q, D)."""

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(3))
        self.among, self.asking = (CrossAttention(dim, heads, qkv_dim) for _ in range(2))
        self.feed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, z: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        n = self.norms[0](z)
        z = z + self.among(n, n)
        z = z + self.asking(self.norms[1](z), x, mask)
        return z + self.feed(self.norms[2](z))


class Queries(nn.Module):
    """(B, L, D), (B, L) -> (B, LAYERS x QUERIES x READ), as `tasks.pathfinder.aux` reads them."""

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__()
        self.start = learned(QUERIES, dim)
        self.layers = nn.ModuleList(Layer(dim, heads, qkv_dim) for _ in range(LAYERS))
        self.norm, self.read = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, READ)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, z, out = zeroed(x, mask), self.start.to(x.dtype).expand(len(x), -1, -1), []
        for layer in self.layers:
            z = layer(z, x, mask)
            y = self.read(self.norm(z))
            out.append(torch.cat((y[..., :2], y[..., 2:].sigmoid()), -1))
        return torch.stack(out, 1).flatten(1)
