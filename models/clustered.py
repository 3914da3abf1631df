"""Clustered attention (Vyas et al. 2020, arXiv 2007.04825, section 3.2): queries share the answer of a prototype.

    q~_c = mean of the queries of cluster c,   out_i = softmax(q~_c(i) K^T / sqrt(E)) V

Clusters are found by k-means in Hamming space on `bits` signs of random projections of a query: an
assignment to the nearest centre, a centre from the majority of each bit, `iterations` times. All of that is counting,
which no rounding moves, and has no gradient; the means have theirs.

The projections are drawn once, at construction, and are a buffer. Centres start at real queries that stand equally far
apart, so that neither padding nor companions have a say; where there are fewer real tokens than `clusters`, some start
alike and stay empty. Time O(L clusters (E + iterations bits)) a head, memory O(L D): distances exist for a tile of
queries.

Departures from the paper: the first centres, which it draws. Its improved form, which corrects the largest weights of
each query, is not here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.parts.eager import eager
from lra.models.parts.heads import MultiHead, all_real, real_first, zeroed
from lra.models.parts.softmax import attend
from lra.models.parts.tiles import blocks, wide


@eager
@torch.no_grad()
def assigned(signs: Tensor, mask: Tensor, clusters: int, iterations: int) -> Tensor:
    """signs (N, L, bits) of -1 and 1, mask (N, L) -> the cluster of each position, int64 (N, L).

    Among centres equally near the first is taken; an empty cluster keeps its centre, a bit without a majority is 1.
    """
    count, order = mask.sum(1), real_first(mask)
    first = torch.arange(clusters, device=mask.device) * count[:, None] // clusters
    centres = _rows(signs, order.gather(1, first))
    weight = mask.unsqueeze(-1).to(signs.dtype)
    cuts = blocks(signs.shape[1], len(signs) * clusters, signs.device)
    nearest = torch.empty(mask.shape, dtype=torch.int64, device=mask.device)
    for turn in range(iterations + 1):
        for at in cuts:
            nearest[:, at] = (signs[:, at] @ centres.mT).argmax(-1)
        if turn < iterations:
            votes = torch.zeros_like(centres).scatter_add_(1, _spread(nearest, signs), signs * weight)
            members = torch.zeros_like(centres[..., :1]).scatter_add_(1, nearest.unsqueeze(-1), weight)
            centres = torch.where(members > 0, torch.where(votes >= 0, 1.0, -1.0).to(votes.dtype), centres)
    return nearest


def _spread(index: Tensor, like: Tensor) -> Tensor:
    return index.unsqueeze(-1).expand(*index.shape, like.shape[-1])


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x (N, C, E), index (N, L) -> (N, L, E)."""
    return x.gather(1, _spread(index, x))


class Clustered(MultiHead):
    """Attention of prototypes of queries; see the module. Raises ValueError for a number below 1."""

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        clusters: int = 100,
        bits: int = 32,
        iterations: int = 10,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary)
        for field, value in (("clusters", clusters), ("bits", bits), ("iterations", iterations)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        self.clusters, self.iterations = clusters, iterations
        self.register_buffer("planes", torch.randn(heads, self.head_dim, bits))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        batch, heads, length, _ = q.shape
        clusters, dtype = min(self.clusters, length), wide(q.dtype)
        with torch.no_grad():
            signs = torch.where(q.to(dtype) @ self.planes.to(dtype) >= 0, 1.0, -1.0).to(dtype).flatten(0, 1)
        each = mask.repeat_interleave(heads, 0)
        cluster = assigned(signs, each, clusters, self.iterations)
        flat, weight = q.flatten(0, 1).to(dtype), each.unsqueeze(-1).to(dtype)
        members = flat.new_zeros(len(flat), clusters, 1).scatter_add(1, cluster.unsqueeze(-1), weight)
        sums = flat.new_zeros(len(flat), clusters, flat.shape[-1]).scatter_add(1, _spread(cluster, flat), flat * weight)
        prototypes = (sums / members.clamp(min=1)).to(q.dtype).unflatten(0, (batch, heads))
        answers = attend(prototypes, k, v, None if all_real(mask) else mask[:, None, None, :], None)
        return _rows(answers.flatten(0, 1), cluster).unflatten(0, (batch, heads))
