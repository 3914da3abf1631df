"""Attention with the square of a ReLU in place of the softmax: relu(q k^T)^2 v, without rows that sum to one.

So et al. 2021 (arXiv 2109.08668) has the activation, Hua et al. 2022 (arXiv 2202.10447) the attention. Weights are made
for some queries at a time, and again in the backward pass: time O(L M (E + P)), memory O((L + M) (E + P)).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.eager import eager
from lra.models.parts.tiles import no_autocast, tiles


class _Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out = v.new_empty(*q.shape[:2], v.shape[2])
        with no_autocast(q):
            for some, cuts in tiles(len(q), q.shape[1], k.shape[1], q.device):
                for at in cuts:
                    out[some, at] = torch.bmm(torch.bmm(q[some, at], k[some].mT).relu_().square_(), v[some])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        with no_autocast(q):
            for some, cuts in tiles(len(q), q.shape[1], k.shape[1], q.device):
                for at in cuts:
                    g, root = grad[some, at], torch.bmm(q[some, at], k[some].mT).relu_()
                    dv[some].baddbmm_(root.square().mT, g)
                    d = torch.bmm(g, v[some].mT).mul_(root).mul_(2)
                    dq[some, at] = torch.bmm(d, k[some])
                    dk[some].baddbmm_(d.mT, q[some, at])
        return dq, dk, dv


@eager
def squared_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (N, L, E), k (N, M, E), v (N, M, P), of one type -> (N, L, P). Padding must be zero in v."""
    return _Squared.apply(q, k, v)
