"""Diagonal linear recurrences along the length, in either direction.

    h_t = exp(g_t) h_(t-1) + v_t,  h_(-1) = 0;        ahead: h_t = exp(g_t) h_(t+1) + v_t,  h_L = 0

The length is cut into chunks of Q = 32. All chunks are stepped through at once, first from zero, to find what
each adds to the next one; the states between chunks are a recurrence again, S = L / Q long, with sums of g as
its exponents, in float64; then all chunks once more, from the states they really start with. That is 2 Q steps
a level over contiguous rows instead of L, reads v twice and makes no powers that could under- or overflow.

What is multiplied many times is never rounded to float32: g is (its 1 - 1e-6 would lose 3 % of the decay), only
the at most Q factors within a chunk are.

The gradient with respect to h runs in the other direction with conj(g); d g_t = conj(exp(g_t) h_(t-1)) d h_t.
Kept for it are g and h, of which whatever reads h keeps the latter anyway. Time O(L N), memory O(L N).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.tiles import blocks, no_autocast, wide

CHUNK = 32


def scan(g: Tensor, v: Tensor, ahead: bool = False) -> Tensor:
    """v (B, L, N), real or complex, of float32 at least -> h (B, L, N).

    g: (N,) for all t, in float64 or complex128, or (B, L, N), real and like v; its real part is at most 0.
    """
    return _Scan.apply(g, v, ahead)


def two_way(x: Tensor, g: Tensor, enter: Tensor, read: Tensor) -> Tensor:
    """Re(C h + C' h'): states h of the past and h' of the future, both with v_t = B x_t, so both have the present.

    x (B, L, D), zero where there is padding, g (N,) complex128, enter (N, 2, D) and read (2, D, N, 2) with real and
    imaginary parts of B, C and C' -> (B, L, D). States are complex64 at least.
    """
    dtype = wide(x.dtype)
    with no_autocast(x):
        v = torch.view_as_complex(F.linear(x.to(dtype), enter.to(dtype).flatten(0, 1)).unflatten(-1, (-1, 2)))
        past, future = (torch.view_as_real(scan(g, v, ahead)).flatten(-2) for ahead in (False, True))
        # Re(c h) is a dot product with the conjugate's parts.
        weight = torch.stack((read[..., 0], -read[..., 1]), dim=-1).to(dtype).flatten(-2)
        return (F.linear(past, weight[0]) + F.linear(future, weight[1])).to(x.dtype)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g: Tensor, v: Tensor, ahead: bool) -> Tensor:
        h = _states(g, v, ahead)
        ctx.save_for_backward(g, h)
        ctx.ahead = ahead
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        g, h = ctx.saved_tensors
        if g.dim() == 1:
            dh = _states(g.conj(), grad, not ctx.ahead)
            return g.exp().conj() * _summed(h, dh, ctx.ahead).to(g.dtype), dh, None
        # The factor into t + 1 takes the gradient back from there. What comes around the end meets a state of zero.
        dh = _states(g.roll(1 if ctx.ahead else -1, 1), grad, not ctx.ahead)
        dg = torch.zeros_like(h)
        to, before = _neighbours(h.shape[1], ctx.ahead)
        torch.mul(h[:, before], dh[:, to], out=dg[:, to])
        return dg.mul_(g.exp()), dh, None


def _neighbours(length: int, ahead: bool) -> tuple[slice, slice]:
    """All positions that have one before them, in the direction of the recurrence; and those."""
    late, early = slice(1, length), slice(0, length - 1)
    return (early, late) if ahead else (late, early)


def _summed(h: Tensor, dh: Tensor, ahead: bool) -> Tensor:
    """Sum of conj(h_(t-1)) dh_t over examples and positions, (N,), in float64."""
    to, before = (t[:, at] for t, at in zip((dh, h), _neighbours(h.shape[1], ahead), strict=True))
    total = torch.zeros(h.shape[-1], dtype=torch.complex128 if h.is_complex() else torch.float64, device=h.device)
    for at in blocks(to.shape[1], h.shape[0] * h.shape[2], h.device) if to.shape[1] else ():
        total += (before[:, at].conj() * to[:, at]).sum((0, 1), dtype=total.dtype)
    return total


def _states(g: Tensor, v: Tensor, ahead: bool) -> Tensor:
    """The recurrence itself, (B, L, N)."""
    batch, length, width = v.shape
    factor = g.exp().to(v.dtype)
    count = -(-length // CHUNK)
    state = v.new_zeros(batch, count, width)
    if count > 1:
        for _ in _steps(factor, v, state, ahead):
            pass
        between = _states(_chunk_exponents(g, count), state.to(_double(v.dtype)), ahead)
        state.zero_()
        to, before = _neighbours(count, ahead)
        state[:, to] = between[:, before].to(v.dtype)
    h = torch.empty_like(v, memory_format=torch.contiguous_format)
    for i, now in _steps(factor, v, state, ahead):
        h[:, i::CHUNK] = now
    return h


def _steps(factor: Tensor, v: Tensor, state: Tensor, ahead: bool):
    """Step all chunks at once: yields i and the states (B, S, N) at their i-th positions, and changes `state`.

    The last chunk may be shorter than others.
    """
    places = range(min(CHUNK, v.shape[1]))
    for i in reversed(places) if ahead else places:
        enters = v[:, i::CHUNK]
        now = state[:, : enters.shape[1]]
        torch.addcmul(enters, factor if factor.dim() == 1 else factor[:, i::CHUNK], now, out=now)
        yield i, now


def _chunk_exponents(g: Tensor, count: int) -> Tensor:
    """Sums of g over each chunk: (N,), or (B, S, N) in float64. That of a last, shorter one has nothing to act on."""
    if g.dim() == 1:
        return CHUNK * g
    total = g.new_zeros(len(g), count, g.shape[2], dtype=torch.float64)
    for i in range(CHUNK):
        some = g[:, i::CHUNK]
        total[:, : some.shape[1]] += some
    return total


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64
