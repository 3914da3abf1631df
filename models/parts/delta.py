"""The delta rule with a decay, by chunks: a memory that takes away what it holds under a key before it writes there.

    S_t = exp(a_t) (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T,   y_t = q_t^T S_t

(Yang et al. 2024, arXiv 2406.06484; with the decay Yang et al. 2024, arXiv 2412.06464). In a chunk of Q
positions with D as in `decay`, the values that are really written solve a triangular system:

    A = I + tril(diag(b) (K K^T * D), -1),   [U W] = A^-1 diag(b) [V, exp(c) K],   V' = U - W S
    y = exp(c) q S + (q k^T * D) V',   S <- exp(c_Q) S + (exp(c_Q - c) K)^T V'

so that the state goes from chunk to chunk by S <- M S + N. `torch.linalg.solve_triangular` solves.

Time O(L (Q E + Q P + E^2 + E P)) a head, memory O(L (E + P) + L E P / Q): inputs and the states between chunks are
kept, all else is computed again going back. In float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.chunks import Chunks, Part, steps, sums_from
from lra.models.parts.decay import room, shaped, weights
from lra.models.parts.tiles import no_autocast

CHUNK = 64


class _Written:
    """What both passes need of a part: keys (N, S, Q, E), beta (N, S, Q, 1), see the module for the rest."""

    def __init__(self, cut: Chunks, part: Part, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor) -> None:
        self.k, self.v, a = (cut.take(x, part) for x in (k, v, log_decay))
        self.beta, self.w = cut.take(beta, part).unsqueeze(-1), weights(a)
        self.products = (self.k @ self.k.mT).mul_(self.w.inside)
        self.system = self.products * self.beta  # of which the part below the diagonal counts
        both = torch.cat((self.v, self.k * self.w.into), -1).mul_(self.beta)
        solved = torch.linalg.solve_triangular(self.system, both, upper=False, unitriangular=True)
        self.values, self.erase = solved.split((self.v.shape[-1], self.k.shape[-1]), -1)
        self.kept = self.k * self.w.out
        self.step = (self.kept.mT @ self.erase).neg_()
        self.step.diagonal(dim1=-2, dim2=-1).add_(self.w.whole[..., 0])

    def enter(self, entering: Tensor) -> Tensor:
        """entering (N, S, E, P) -> V' (N, S, Q, P)."""
        return self.values - self.erase @ entering


class _Delta(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, reverse: bool) -> Tensor:
        cut, parts = shaped(q, v, CHUNK, reverse)
        states, state = room(q, v, cut)
        out = v.new_empty(v.shape)
        with no_autocast(q):
            for part in parts:
                qc, new = cut.take(q, part), _Written(cut, part, k, v, log_decay, beta)
                entering, added = states[:, part.chunks], new.kept.mT @ new.values
                for s in steps(part.count, False):
                    entering[:, s] = state
                    state = torch.baddbmm(added[:, s], new.step[:, s], state)
                y = (qc @ new.k.mT).mul_(new.w.inside) @ new.enter(entering)
                cut.put(out, part, y.add_((qc * new.w.into) @ entering))
        ctx.save_for_backward(q, k, v, log_decay, beta, states)
        ctx.reverse = reverse
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        *inputs, states = ctx.saved_tensors
        q, k, v, log_decay, beta = inputs
        cut, parts = shaped(q, v, CHUNK, ctx.reverse)
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        d_state = torch.zeros_like(states[:, 0])
        with no_autocast(q):
            for part in reversed(parts):
                qc, g, new = cut.take(q, part), cut.take(grad, part), _Written(cut, part, k, v, log_decay, beta)
                entering, leaving = states[:, part.chunks], torch.empty_like(states[:, part.chunks])
                seen = (qc @ new.k.mT).mul_(new.w.inside)
                added = (qc * new.w.into - seen @ new.erase).mT @ g
                for s in steps(part.count, True):
                    leaving[:, s] = d_state
                    d_state = torch.baddbmm(added[:, s], new.step[:, s].mT, d_state)
                for x, dx in zip(found, _gradients(qc, g, new, seen, entering, leaving), strict=True):
                    cut.put(x, part, dx)
        return *found, None


def _gradients(q: Tensor, g: Tensor, new: _Written, seen: Tensor, entering: Tensor, leaving: Tensor) -> tuple:
    """Of q, k, v, log_decay and beta of a part, by that of y and of the states that leave the chunks."""
    k, w, beta, written = new.k, new.w, new.beta, new.enter(entering)
    drawn = (g @ written.mT).mul_(w.inside)
    from_state, to_state = (g @ entering.mT).mul_(w.into), (written @ leaving.mT).mul_(w.out)
    # Through V' = A^-1 diag(b) (V - exp(c) K S): back to the right hand side, and to A.
    d_written = seen.mT @ g + new.kept @ leaving
    d_right = torch.linalg.solve_triangular(new.system.mT, d_written, upper=True, unitriangular=True)
    d_products = (d_right @ written.mT).neg_().tril_(-1)
    d_seen = d_products * new.products
    d_erased = (d_right @ entering.mT).mul_(w.into)
    d_beta = (d_right * new.v).sum(-1) - (d_erased * k).sum(-1) + d_seen.sum(-1)
    erased, between = d_erased * beta, (d_products * beta).mul_(w.inside)
    dq = drawn @ k + from_state
    dk = drawn.mT @ q + to_state - erased + (between + between.mT) @ k
    # A pair counts for the decays between its two positions: none, if they are one.
    pairs = (q @ k.mT).mul_(drawn)
    pairs.diagonal(dim1=-2, dim2=-1).zero_()
    pairs.addcmul_(d_seen, beta)
    kept = (to_state * k).sum(-1)
    dc = pairs.sum(-1) - pairs.sum(-2) + (from_state * q).sum(-1) - (erased * k).sum(-1) - kept
    end = kept.sum(-1, keepdim=True) + (entering * leaving).sum((-2, -1)).unsqueeze(-1) * w.whole[..., 0]
    return dq, dk, d_right * beta, sums_from(dc).add_(end), d_beta


def delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, reverse: bool = False) -> Tensor:
    """y as above, from S = 0; q, k (B, L, H, E), v (B, L, H, P), log_decay and beta (B, L, H) -> (B, L, H, P).

    k of length 1 and beta from 0 to 2 keep the memory from growing; log_decay is finite and 0 or less. With `reverse`
    from the last position to the first. A position with beta 0 and log_decay 0 is as if it were not there.
    """
    return _Delta.apply(q, k, v, log_decay, beta, reverse)
