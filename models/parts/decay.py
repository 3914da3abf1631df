"""Linear attention with a decay, by chunks: a scalar a head and position, or one for each channel of the keys.

    S_t = exp(a_t) S_{t-1} + b_t k_t v_t^T,   y_t = q_t^T S_t          a_t <= 0 the log decay, b_t a gain

that is y_i = sum_{j <= i} exp(a_{j+1} + ... + a_i) b_j (q_i k_j) v_j (Dao and Gu 2024, arXiv 2405.21060, section 6;
Yang et al. 2023, arXiv 2312.06635, section 4 for channels). With c the running sum of a in a chunk of Q,
and b taken into v:

    y = (q k^T * D) v + exp(c) q S,   D_ij = exp(c_i - c_j) for i >= j,   S <- exp(c_Q) S + (exp(c_Q - c) k)^T v

Every exponent is 0 or less. Sums of a are taken and subtracted in float64: in float32 they lose the
digits that a long or a strong decay needs. With channels c_i - c_j stands inside the product of q and k:
a chunk is halved until one position is left, and the keys of each first half meet the queries of the
second by way of the boundary r between them, exp(c_i - c_r) q and exp(c_r - c_j) k.

Time O(L Q (E + P) + L E P) a head for keys of width E and values of width P, memory O(L (E + P) + L E P / Q):
the inputs and the states between chunks are kept, all else is computed again going back. In float32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.chunks import Chunks, Part, carry, sums_from
from lra.models.parts.tiles import no_autocast, wide

CHUNK = 64


class Weights(NamedTuple):
    """Of a part: `inside` (N, S, Q, Q) between positions, `into` and `out` (N, S, Q, 1) from the state before and
    to the state after, `whole` (N, S, 1, 1) from one to the other."""

    inside: Tensor
    into: Tensor
    out: Tensor
    whole: Tensor


def weights(log_decay: Tensor, diagonal: bool = True) -> Weights:
    """log_decay (N, S, Q); without `diagonal` a position does not meet itself."""
    c = log_decay.double().cumsum(-1)
    size = c.shape[-1]
    hidden = torch.ones(size, size, dtype=torch.bool, device=c.device).triu(1 if diagonal else 0)
    inside = (c.unsqueeze(-1) - c.unsqueeze(-2)).to(log_decay.dtype).masked_fill_(hidden, -math.inf).exp_()
    last = c[..., -1:]
    into, out, whole = (x.to(log_decay.dtype).exp().unsqueeze(-1) for x in (c, last - c, last))
    return Weights(inside, into, out, whole)


class _Decayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, gain: Tensor, reverse: bool, diagonal: bool
    ) -> Tensor:
        cut, parts = shaped(q, v, CHUNK, reverse)
        states, state = room(q, v, cut)
        out = v.new_empty(v.shape)
        with no_autocast(q):
            for part in parts:
                qc, kc, vc, b = (cut.take(x, part) for x in (q, k, v, gain))
                w = weights(cut.take(log_decay, part), diagonal)
                vc = vc * b.unsqueeze(-1)
                entering = states[:, part.chunks]
                state = carry(entering, state, w.whole, (kc * w.out).mT @ vc)
                y = (qc @ kc.mT).mul_(w.inside) @ vc
                cut.put(out, part, y.add_((qc * w.into) @ entering))
        ctx.save_for_backward(q, k, v, log_decay, gain, states)
        ctx.options = reverse, diagonal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        *inputs, states = ctx.saved_tensors
        q, k, v, log_decay, gain = inputs
        reverse, diagonal = ctx.options
        cut, parts = shaped(q, v, CHUNK, reverse)
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        dq, dk, dv, da, d_gain = found
        d_state = torch.zeros_like(states[:, 0])
        with no_autocast(q):
            for part in reversed(parts):
                qc, kc, plain, g = (cut.take(x, part) for x in (q, k, v, grad))
                b = cut.take(gain, part).unsqueeze(-1)
                vc = plain * b
                w = weights(cut.take(log_decay, part), diagonal)
                entering, leaving = states[:, part.chunks], torch.empty_like(states[:, part.chunks])
                d_state = carry(leaving, d_state, w.whole, (qc * w.into).mT @ g, back=True)
                seen, drawn = (qc @ kc.mT).mul_(w.inside), (g @ vc.mT).mul_(w.inside)
                from_state, to_state = (g @ entering.mT).mul_(w.into), (vc @ leaving.mT).mul_(w.out)
                cut.put(dq, part, drawn @ kc + from_state)
                cut.put(dk, part, drawn.mT @ qc + to_state)
                gv = seen.mT @ g + (kc * w.out) @ leaving
                cut.put(d_gain, part, (gv * plain).sum(-1))
                cut.put(dv, part, gv.mul_(b))
                # A pair counts for the decays between its two positions: none, if they are one.
                pairs = (qc @ kc.mT).mul_(drawn)
                pairs.diagonal(dim1=-2, dim2=-1).zero_()
                kept = (to_state * kc).sum(-1)
                dc = pairs.sum(-1) - pairs.sum(-2) + (from_state * qc).sum(-1) - kept
                end = kept.sum(-1, keepdim=True) + (entering * leaving).sum((-2, -1)).unsqueeze(-1) * w.whole[..., 0]
                cut.put(da, part, sums_from(dc).add_(end))
        return *found, None, None


def shaped(q: Tensor, v: Tensor, size: int, reverse: bool) -> tuple[Chunks, list[Part]]:
    batch, length, heads, width = v.shape
    cut = Chunks(batch, length, heads, min(size, 1 << (length - 1).bit_length()), reverse)
    return cut, cut.parts(max(width, q.shape[-1], cut.size), q.device)


def room(q: Tensor, v: Tensor, cut: Chunks) -> tuple[Tensor, Tensor]:
    """Room for the states that enter the chunks (B H, S, E, P), and the first of them."""
    shape = len(q) * cut.heads, cut.count, q.shape[-1], v.shape[-1]
    states = q.new_empty(shape, dtype=wide(q.dtype))
    return states, torch.zeros_like(states[:, 0])


def decay_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    gain: Tensor,
    reverse: bool = False,
    diagonal: bool = True,
) -> Tensor:
    """y_i = sum_{j <= i} exp(a_{j+1} + ... + a_i) b_j (q_i k_j) v_j, without j = i unless `diagonal`.

    q, k (B, L, H, E), or (B, L, 1, E) for all heads, v (B, L, H, P), log_decay a, finite and 0 or less, and
    gain b (B, L, H) -> (B, L, H, P). With `reverse` along the length turned round: the sum over j >= i with
    exp(a_i + ... + a_{j-1}). A position with gain 0 and log_decay 0 is as if it were not there.
    """
    return _Decayed.apply(q, k, v, log_decay, gain, reverse, diagonal)


def two_sided_decay_attention(q: Tensor, k: Tensor, v: Tensor, before: Tensor, after: Tensor, gain: Tensor) -> Tensor:
    """y_i = sum_j w_ij b_j (q_i k_j) v_j over all j, with w_ij = exp(f_{j+1} + ... + f_i) of `before` f where j < i,
    exp(g_i + ... + g_{j-1}) of `after` g where j > i, and 1 where j = i.

    Shapes as in `decay_attention`. With g_t = f_{t+1} the weights are symmetric.
    """
    seen = decay_attention(q, k, v, before, gain)
    return seen + decay_attention(q, k, v, after, gain, reverse=True, diagonal=False)


class _ChannelDecayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reverse: bool) -> Tensor:
        cut, parts = shaped(q, v, CHUNK, reverse)
        states, state = room(q, v, cut)
        out = v.new_empty(v.shape)
        with no_autocast(q):
            for part in parts:
                qc, kc, vc, a = (cut.take(x, part) for x in (q, k, v, log_decay))
                c, into, kept, whole = _channels(a)
                entering = states[:, part.chunks]
                state = carry(entering, state, whole, (kc * kept).mT @ vc)
                y = (qc * kc).sum(-1, keepdim=True) * vc
                y += (qc * into) @ entering
                for first, second, before, after in _halves(c, qc.dtype):
                    seen = (second(qc) * after) @ (first(kc) * before).mT
                    second(y).add_(seen @ first(vc))
                cut.put(out, part, y)
        ctx.save_for_backward(q, k, v, log_decay, states)
        ctx.reverse = reverse
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, log_decay, states = ctx.saved_tensors
        cut, parts = shaped(q, v, CHUNK, ctx.reverse)
        dq, dk, dv, da = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, log_decay))
        d_state = torch.zeros_like(states[:, 0])
        with no_autocast(q):
            for part in reversed(parts):
                qc, kc, vc, a, g = (cut.take(x, part) for x in (q, k, v, log_decay, grad))
                c, into, kept, whole = _channels(a)
                entering, leaving = states[:, part.chunks], torch.empty_like(states[:, part.chunks])
                d_state = carry(leaving, d_state, whole, (qc * into).mT @ g, back=True)
                gq, gk, gv = (g @ entering.mT).mul_(into), (vc @ leaving.mT).mul_(kept), (kc * kept) @ leaving
                end = (gk * kc).sum(2, keepdim=True) + (entering * leaving).sum(-1).unsqueeze(2) * whole.mT
                for first, second, before, after in _halves(c, qc.dtype):
                    queries, keys, back = second(qc) * after, first(kc) * before, second(g)
                    drawn = back @ first(vc).mT
                    second(gq).add_((drawn @ keys).mul_(after))
                    first(gk).add_((drawn.mT @ queries).mul_(before))
                    first(gv).add_((keys @ queries.mT) @ back)
                # c_i appears where q_i does, -c_j where k_j does.
                cut.put(da, part, sums_from(gq * qc - gk * kc).add_(end))
                own = (g * vc).sum(-1, keepdim=True)
                cut.put(dq, part, gq.addcmul_(own, kc))
                cut.put(dk, part, gk.addcmul_(own, qc))
                cut.put(dv, part, gv.addcmul_((qc * kc).sum(-1, keepdim=True), g))
        return dq, dk, dv, da, None


def _channels(log_decay: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log_decay (N, S, Q, E) -> its running sums in float64; weights from the state before and to the state
    after, of the same shape, and (N, S, E, 1) from one to the other."""
    c = log_decay.double().cumsum(2)
    last = c[:, :, -1:]
    into, kept, whole = (x.to(log_decay.dtype).exp() for x in (c, last - c, last))
    return c, into, kept, whole.mT


View = Callable[[Tensor], Tensor]


def _halves(c: Tensor, dtype: torch.dtype) -> Iterator[tuple[View, View, Tensor, Tensor]]:
    """For blocks of 2, 4, ... Q positions: what gives the first and the second half (N, S, Q / 2m, m, ...) of a
    tensor (N, S, Q, ...) as a view, and weights up to and from the boundary, by the running sums c of a part."""
    half = 1
    while 2 * half <= c.shape[2]:
        shape = -1, 2, half

        def first(x: Tensor, shape: tuple[int, int, int] = shape) -> Tensor:
            return x.unflatten(2, shape).select(3, 0)

        def second(x: Tensor, shape: tuple[int, int, int] = shape) -> Tensor:
            return x.unflatten(2, shape).select(3, 1)

        boundary = first(c)[..., -1:, :]
        before, after = boundary - first(c), second(c) - boundary
        yield first, second, before.to(dtype).exp(), after.to(dtype).exp()
        half *= 2


def channel_decay_attention(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, reverse: bool = False) -> Tensor:
    """y_i = sum_{j <= i} (q_i * exp(a_{j+1} + ... + a_i)) k_j v_j, as `decay_attention` with a vector for each decay.

    q, k, log_decay (B, L, H, E), v (B, L, H, P) -> (B, L, H, P).
    """
    return _ChannelDecayed.apply(q, k, v, log_decay, reverse)
