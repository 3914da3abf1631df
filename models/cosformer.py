"""cosFormer (Qin et al. 2022, arXiv 2202.08791), bidirectional.

    w_ij = relu(q_i) . relu(k_j) cos(pi (r_i - r_j) / 2n)                                     (section 3)
    out_i = sum_j w_ij v_j / max(sum_j w_ij, eps)

As cos(a - b) = cos a cos b + sin a sin b, this is linear attention with twice the features. r_i counts the real tokens
up to i from 1, n is how many there are: a hole is not there, and neither the amount of padding nor its side moves a
weight. Time O(L E^2) a head, memory O(L D).

Departures from the paper: none. eps = 1e-6 as a lower bound is its authors' code's, whose n is the padded length. A
query whose features are all zero gets zeros.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.heads import MultiHead, zeroed
from lra.models.parts.tiles import no_autocast, wide

EPS = 1e-6


class CosFormer(MultiHead):
    """Linear attention that is reweighted by a cosine of the distance; see the module."""

    def __init__(self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        dtype = wide(q.dtype)
        with no_autocast(q):
            angle = mask.cumsum(1).to(dtype) / mask.sum(1, keepdim=True).clamp(min=1) * (math.pi / 2)
            turn = [t[:, None, :, None] for t in (angle.cos(), angle.sin())]
            q, k = (torch.cat([t * way for way in turn], -1) for t in (q.to(dtype).relu(), k.to(dtype).relu()))
            values = F.pad(v.to(dtype), (0, 1), value=1)
            sums = q @ (k.mT @ values)  # padding has no features, because x is zero there
            return (sums[..., :-1] / sums[..., -1:].clamp(min=EPS)).to(v.dtype)
