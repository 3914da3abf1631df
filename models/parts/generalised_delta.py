"""The generalised delta rule of RWKV-7, by chunks: a memory whose every channel fades by itself, and that writes anew
what it reads (Peng et al. 2025, arXiv 2503.14456, section 4).

    S_t = diag(exp(a_t)) S_{t-1} + b_t (z_t^T S_{t-1}) + k_t v_t^T,   y_t = q_t^T S_t

With c the running sum of a in a chunk of Q, q and k as q exp(c) and k exp(-c), b as k, and z, which reads before the
position fades, as z exp(c - a), a chunk is what a chunk of the delta rule is (`delta`):

    U = tril(z k^T, -1) V + tril(z b^T, -1) U + z S,   y = q S + tril(q k^T) V + tril(q b^T) U
    S <- exp(c_Q) * (S + k^T V + b^T U)

The one system is triangular, and the state goes from chunk to chunk by S <- M S + N. exp(-c) is at most exp(0.61 Q),
because RWKV-7 bounds its decays: without that bound products would have to be split, as in `decay`.

Time O(L (Q E + Q P + E^2 + E P)) a head, memory O(L (E + P) + L E P / Q): inputs and the states between chunks are
kept, all else is computed again going back. Running sums are float64, all else float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.chunks import Chunks, Part, steps, sums_from
from lra.models.parts.decay import room, shaped
from lra.models.parts.tiles import no_autocast

CHUNK = 64
LEAST = -0.6065306597126334  # -exp(-1/2), the strongest log decay


class _Written:
    """What both passes need of a part; all (N, S, Q, ...), `left` of q and z, `right` of k and b stacked along Q."""

    def __init__(self, cut: Chunks, part: Part, inputs: list[Tensor]) -> None:
        q, a, k, v, z, b = (cut.take(x, part) for x in inputs)
        c = a.double().cumsum(2)
        self.up, self.before, self.down = (x.exp().to(q.dtype) for x in (c, c - a, -c))
        self.q, self.z, self.k, self.b, self.v = q * self.up, z * self.before, k * self.down, b * self.down, v
        products = torch.cat((self.q, self.z), 2) @ torch.cat((self.k, self.b), 2).mT
        queries, reads = (rows.split(cut.size, -1) for rows in products.split(cut.size, 2))
        self.seen, self.seen_written = (x.tril() for x in queries)
        self.read, self.system = reads[0].tril(-1), reads[1].neg()  # of which the part below the diagonal counts
        both = torch.cat((self.read @ v, self.z), -1)
        solved = torch.linalg.solve_triangular(self.system, both, upper=False, unitriangular=True)
        self.values, self.entered = solved.split((v.shape[-1], k.shape[-1]), -1)
        self.whole = self.up[:, :, -1:].mT
        self.step = self.b.mT @ self.entered
        self.step.diagonal(dim1=-2, dim2=-1).add_(1)
        self.step *= self.whole

    def enter(self, entering: Tensor) -> Tensor:
        """entering (N, S, E, P) -> U (N, S, Q, P)."""
        return self.values + self.entered @ entering


class _Generalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx, reverse: bool, *inputs: Tensor) -> Tensor:
        q, _, _, v, _, _ = inputs
        cut, parts = shaped(q, v, CHUNK, reverse)
        states, state = room(q, v, cut)
        out = v.new_empty(v.shape)
        with no_autocast(q):
            for part in parts:
                new = _Written(cut, part, inputs)
                entering = states[:, part.chunks]
                added = (new.k.mT @ new.v + new.b.mT @ new.values).mul_(new.whole)
                for s in steps(part.count, False):
                    entering[:, s] = state
                    state = torch.baddbmm(added[:, s], new.step[:, s], state)
                y = new.seen @ new.v + new.seen_written @ new.enter(entering)
                cut.put(out, part, y.add_(new.q @ entering))
        ctx.save_for_backward(*inputs, states)
        ctx.reverse = reverse
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        *inputs, states = ctx.saved_tensors
        cut, parts = shaped(inputs[0], inputs[3], CHUNK, ctx.reverse)
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        d_state = torch.zeros_like(states[:, 0])
        with no_autocast(grad):
            for part in reversed(parts):
                g, new = cut.take(grad, part), _Written(cut, part, inputs)
                entering, leaving = states[:, part.chunks], torch.empty_like(states[:, part.chunks])
                added = (new.q + new.seen_written @ new.entered).mT @ g
                for s in steps(part.count, True):
                    leaving[:, s] = d_state
                    d_state = torch.baddbmm(added[:, s], new.step[:, s].mT, d_state)
                for x, dx in zip(found, _gradients(g, new, entering, leaving), strict=True):
                    cut.put(x, part, dx)
        return None, *found


def _gradients(g: Tensor, new: _Written, entering: Tensor, leaving: Tensor) -> tuple[Tensor, ...]:
    """Of q, a, k, v, z and b of a part, by that of y and of the states that leave the chunks."""
    q, z, k, b, v, written = new.q, new.z, new.k, new.b, new.v, new.enter(entering)
    inside = leaving * new.whole
    d_written = new.seen_written.mT @ g + b @ inside
    d_read = torch.linalg.solve_triangular(new.system.mT, d_written, upper=True, unitriangular=True)
    dv = new.seen.mT @ g + k @ inside + new.read.mT @ d_read
    # A position's product with itself knows no decay: it comes to q, k and b after those of the decays are taken.
    d_seen, d_seen_written = (g @ v.mT).tril_(-1), (g @ written.mT).tril_(-1)
    d_reads, d_system = (d_read @ v.mT).tril_(-1), (d_read @ written.mT).tril_(-1)
    dq = g @ entering.mT + d_seen @ k + d_seen_written @ b
    dz = d_read @ entering.mT + d_reads @ k + d_system @ b
    dk = v @ inside.mT + d_seen.mT @ q + d_reads.mT @ z
    db = written @ inside.mT + d_seen_written.mT @ q + d_system.mT @ z
    before = dz * z
    dc = dq * q + before - dk * k - db * b
    after = entering + k.mT @ v + b.mT @ written
    end = (inside * after).sum(-1).unsqueeze(2)
    da = sums_from(dc).add_(end).sub_(before)
    own, own_written = (g * v).sum(-1, keepdim=True), (g * written).sum(-1, keepdim=True)
    dq.addcmul_(own, k).addcmul_(own_written, b)
    dk.addcmul_(own, q)
    db.addcmul_(own_written, q)
    return dq * new.up, da, dk * new.down, dv, dz * new.before, db * new.down


def generalised_delta_rule(
    q: Tensor, log_decay: Tensor, k: Tensor, v: Tensor, z: Tensor, b: Tensor, reverse: bool = False
) -> Tensor:
    """y as above, from S = 0; q, log_decay, k, z, b (B, L, H, E), v (B, L, H, P) -> (B, L, H, P).

    log_decay from LEAST to 0. z of length 1 and b = -r * z with r from 0 to 1 keep the memory from growing. With
    `reverse` from the last position to the first. A position with log_decay, k and b 0 is as if it were not there.
    """
    return _Generalised.apply(reverse, q, log_decay, k, v, z, b)
