"""The heart of the gated attention unit: attention with the square of a ReLU in place of the softmax, and its gate.

So et al. 2021 (arXiv 2109.08668) has the square, Hua et al. 2022 (arXiv 2202.10447) the unit. It is given what comes
before the activations: all that is made of that, weights too, is held for some groups at a time, in cache, and made
again in the backward pass. Time O(L G (E + P)) for groups of G positions, memory O(L (E + P)).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.eager import eager
from lra.models.parts.tiles import blocks, budget, no_autocast

Tile = tuple[slice, slice]


def tiles_of(value: Tensor) -> Iterator[Tile]:
    """Examples and groups of value (B, N, G, P). Where a tile has several groups, their weights fit a buffer."""
    batch, groups, group, width = value.shape
    fit = max(1, budget(value.device) // (max(width, group) * group))
    together = max(1, min(batch, fit // groups))
    for start in range(0, batch, together):
        for first in range(0, groups, fit):
            yield slice(start, min(start + together, batch)), slice(first, min(first + fit, groups))


def between(bias: Tensor, rows: slice) -> Tensor:
    """Some rows of the (G, G) matrix of bias[j - i]; bias (2 G - 1,), that of 0 in the middle."""
    size = len(bias) // 2 + 1
    return bias[size - rows.stop : 2 * size - 1 - rows.start].unfold(0, size, 1).flip(0)


def add_between(d_bias: Tensor, rows: slice, d: Tensor) -> None:
    """Add the gradient d (n, G) of `between` to that of its bias."""
    count, size = d.shape
    skewed = F.pad(d.flip(0), (0, count)).flatten()[: count * (size + count - 1)].view(count, -1)
    d_bias[size - rows.stop : 2 * size - 1 - rows.start].add_(skewed.sum(0))


def active(tile: Tile, base: Tensor, value: Tensor, mask: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """z (b, n, G, E) and v (b, n, G, P) of a tile."""
    z, v = (F.silu(x[tile].to(dtype)) for x in (base, value))
    return z, v if mask is None else v.masked_fill_(~mask[tile], 0)


def kind(i: int, z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return torch.addcmul(beta[i], z, gamma[i])


def near(z: Tensor, gamma: Tensor, beta: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys inside the groups, (b n, G, E) each."""
    return kind(0, z, gamma, beta).div_(sizes).flatten(0, 1), kind(1, z, gamma, beta).flatten(0, 1)


def far(i: int, z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Queries or keys over all, (b, n G, E)."""
    return kind(i, z, gamma, beta).flatten(1, 2)


def by_group(x: Tensor) -> Tensor:
    """A tile (b, n, G, P) of what is written to -> (b n, G, P): a view, because what is written to a copy is lost."""
    return x.view(-1, *x.shape[2:])


def by_token(x: Tensor) -> Tensor:
    """The same -> (b, n G, P)."""
    return x.view(len(x), -1, x.shape[3])


def silu_backward(grad: Tensor, x: Tensor, into: Tensor) -> None:
    torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=into)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate, value, base, gamma, beta, bias, sizes, count, mask):
        dtype, linear = gamma.dtype, len(gamma) == 4
        before, out = torch.empty_like(gate, dtype=dtype), torch.empty_like(gate)
        sums = before.new_zeros(len(gate), base.shape[3], value.shape[3]) if linear else None
        if linear:
            for tile in tiles_of(value):
                z, v = active(tile, base, value, mask, dtype)
                sums[tile[0]].baddbmm_(far(3, z, gamma, beta).mT, v.flatten(1, 2))
            sums.div_(count)
        for tile in tiles_of(value):
            z, v = active(tile, base, value, mask, dtype)
            q, k = near(z, gamma, beta, sizes[tile])
            y, values = before[tile], v.flatten(0, 1)
            for rows in blocks(q.shape[1], q.shape[1] * len(q), gate.device):
                weights = torch.baddbmm(between(bias, rows), q[:, rows], k.mT).relu_().square_()
                torch.bmm(weights, values, out=by_group(y)[:, rows])
            if linear:
                by_token(y).baddbmm_(far(2, z, gamma, beta), sums[tile[0]])
            torch.mul(y, F.silu(gate[tile].to(dtype)), out=out[tile])
        ctx.save_for_backward(gate, value, base, gamma, beta, bias, sizes, count, mask, sums, before)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gate, value, base, gamma, beta, bias, sizes, count, mask, sums, before = ctx.saved_tensors
        dtype, linear = gamma.dtype, sums is not None
        d_gate, d_value, d_base = (torch.empty_like(t, dtype=dtype) for t in (gate, value, base))
        d_gamma, d_beta, d_bias = (torch.zeros_like(t) for t in (gamma, beta, bias))
        d_sums = torch.zeros_like(sums) if linear else None

        def through(i: int, z: Tensor, d: Tensor, dz: Tensor) -> None:
            """From the gradient d of one kind, which is lost, to those of z, gamma and beta."""
            d = d.view_as(z)
            d_beta[i].add_(d.sum((0, 1, 2)))
            dz.addcmul_(d, gamma[i])
            d_gamma[i].add_(d.mul_(z).sum((0, 1, 2)))

        with no_autocast(gate):
            for tile in tiles_of(value):
                z, v = active(tile, base, value, mask, dtype)
                hidden, g = gate[tile].to(dtype), grad[tile].to(dtype)
                silu_backward(g * before[tile], hidden, d_gate[tile])
                dy = F.silu(hidden).mul_(g)
                dz, dv = d_base[tile].zero_(), by_group(d_value[tile].zero_())
                if linear:
                    d_sums[tile[0]].baddbmm_(far(2, z, gamma, beta).mT, dy.flatten(1, 2))
                    through(2, z, torch.bmm(dy.flatten(1, 2), sums[tile[0]].mT), dz)
                q, k = near(z, gamma, beta, sizes[tile])
                dq, dk, dy, v = torch.empty_like(q), torch.zeros_like(k), dy.flatten(0, 1), v.flatten(0, 1)
                for rows in blocks(q.shape[1], q.shape[1] * len(q), gate.device):
                    roots = torch.baddbmm(between(bias, rows), q[:, rows], k.mT).relu_()
                    d = torch.bmm(dy[:, rows], v.mT).mul_(roots).mul_(2)
                    dv.baddbmm_(roots.square_().mT, dy[:, rows])
                    add_between(d_bias, rows, d.sum(0))
                    torch.bmm(d, k, out=dq[:, rows])
                    dk.baddbmm_(d.mT, q[:, rows])
                through(0, z, dq.view_as(z).div_(sizes[tile]), dz)
                through(1, z, dk, dz)
            if linear:
                d_sums.div_(count)
            for tile in tiles_of(value):
                dv, dz = d_value[tile], d_base[tile]
                if linear:
                    z, v = active(tile, base, value, mask, dtype)
                    through(3, z, torch.bmm(v.flatten(1, 2), d_sums[tile[0]].mT), dz)
                    by_token(dv).baddbmm_(far(3, z, gamma, beta), d_sums[tile[0]])
                if mask is not None:
                    dv.masked_fill_(~mask[tile], 0)
                for d, x in ((dv, value), (dz, base)):
                    silu_backward(d, x[tile].to(dtype), d)
        back = (d.to(t.dtype) for d, t in ((d_gate, gate), (d_value, value), (d_base, base)))
        return *back, d_gamma, d_beta, d_bias, None, None, None


@eager
def gated(
    gate: Tensor,
    value: Tensor,
    base: Tensor,
    gamma: Tensor,
    beta: Tensor,
    bias: Tensor,
    sizes: Tensor,
    count: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """u * (A v), or u * (A v + q' (k'^T v) / n) where gamma and beta have four rows, as models/gau.py has them.

    gate, value (B, N, G, P) and base (B, N, G, E) before their activation, which give u, v and z; gamma, beta (2 or 4,
    E) of the type to compute in; bias (2 G - 1,) of j - i; sizes (B, N, 1, 1) and count (B, 1, 1), the real tokens of
    a group and of an example, without a gradient; mask (B, N, G, 1), None if it hides nothing -> (B, N, G, P).
    Autocast is off where this is called.
    """
    return _Gated.apply(*(x.contiguous() for x in (gate, value, base)), gamma, beta, bias, sizes, count, mask)
