"""k-NN attention (Wang et al. 2021, arXiv 2106.00515): each query sees the keys of its `top` largest scores.

    out_i = softmax over {j : s_ij >= the top-th largest of s_i} of s_ij, times v_j;   s = Q K^T / sqrt(E)

Of keys that tie with the last, but for rounding (2^-16), all count. Scores are made for some queries at a time, and
again in the backward pass, from each query's threshold and log-sum-exp: time O(L^2 D), memory O(L D). Padding is no
key; what has fewer keys than `top` is full attention. Which keys are seen has no gradient.

Departures from the paper: none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.eager import eager
from lra.models.parts.heads import MultiHead, all_real, zeroed
from lra.models.parts.softmax import LOG2_E, tiles
from lra.models.parts.tiles import no_autocast, wide

TIE = LOG2_E / 2**16  # of scores


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, top: int) -> Tensor:
        dtype = wide(q.dtype)
        out, least = torch.empty_like(q), q.new_empty(*q.shape[:3], 1, dtype=dtype)
        log_sums = torch.empty_like(least)
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                for cut in cuts:
                    at = (some, heads, cut)
                    scores = _scores(q[at], k[some, heads], mask, some)
                    lowest = scores.topk(top, sorted=False).values.amin(-1, keepdim=True).sub_(TIE)
                    weights, log_sum = _weights(scores, lowest)
                    out[at] = weights @ v[some, heads].to(dtype)
                    least[at], log_sums[at] = lowest, log_sum
        ctx.save_for_backward(q, k, v, mask, out, least, log_sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, mask, out, least, log_sums = ctx.saved_tensors
        dtype = least.dtype
        dq, (dk, dv) = torch.empty_like(q), (torch.zeros_like(x, dtype=dtype) for x in (k, v))
        factor = q.shape[-1] ** -0.5
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                for cut in cuts:
                    at = (some, heads, cut)
                    scores = _scores(q[at], k[some, heads], mask, some)
                    weights = scores.masked_fill_(scores < least[at], -math.inf).sub_(log_sums[at]).exp2_()
                    g = grad[at].to(dtype)
                    dv[some, heads] += weights.mT @ g
                    mean = (g * out[at].to(dtype)).sum(-1, keepdim=True)
                    d = (g @ v[some, heads].to(dtype).mT).sub_(mean).mul_(weights).mul_(factor)
                    dq[at] = d @ k[some, heads].to(dtype)
                    dk[some, heads] += d.mT @ q[at].to(dtype)
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, some: slice) -> Tensor:
    """A tile of s / log 2 (b, h, n, L), -inf at keys that nobody sees; the same numbers whenever it is asked for.

    In powers of two, because MKL's exp is many times slower on -inf.
    """
    dtype = wide(q.dtype)
    scores = (q.to(dtype) * (LOG2_E * q.shape[-1] ** -0.5)) @ k.to(dtype).mT
    return scores if mask is None else scores.masked_fill_(~mask[some, None, None, :], -math.inf)


def _weights(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of what is not below `least` (b, h, n, 1), and the binary log of its sum; of nothing, zeros and 0."""
    scores = scores.masked_fill_(scores < least, -math.inf)
    peak = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)
    weights = scores.sub_(peak).exp2_()
    total = weights.sum(-1, keepdim=True)
    log_sum = torch.where(total > 0, total.log2() + peak, 0)
    return weights.div_(total.clamp(min=torch.finfo(scores.dtype).tiny)), log_sum


@eager
def attend_top(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, top: int) -> Tensor:
    """q, k, v (B, H, L, E), mask (B, L) -> (B, H, L, E), as in the module."""
    mask = None if all_real(mask) else mask
    if top >= k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None, :])
    return _Attend.apply(q, k, v, mask, top)


class KVT(MultiHead):
    """Attention to the `top` best keys; see the module. Raises ValueError if `top` is below 1."""

    def __init__(
        self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, rotary: bool = False, top: int = 100
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary)
        if top < 1:
            raise ValueError(f"model.mixer.top: {top} is not above 0")
        self.top = top

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return attend_top(q, k, v, mask, self.top)
