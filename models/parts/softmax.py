"""Softmax attention over all keys with dropout on the weights, for CPUs, where no fused kernel has it.

Scores are made for some queries at a time, all keys of each, in buffers that stay in cache, and made
again in the backward pass from one number a query (Dao et al. 2022, arXiv 2205.14135, section 3.1);
which weights are dropped follows from where they stand (`chance`). Time O(L M E) a head. Memory
O((L + M) E), as of fused attention: q, k, v, the output and one number a query are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.chance import Drops, keep_, kept, scale
from lra.models.parts.eager import eager
from lra.models.parts.heads import real_first
from lra.models.parts.tiles import no_autocast, wide

# Scores held at once, of which there are three buffers: they stay in a core's L2 cache, or nearly so.
SCORES = 1 << 17
QUERIES = 512  # of a head that are taken before another head is taken with them
FEWEST_QUERIES = 64
LOG2_E = 1 / math.log(2)
# exp() of scores within this needs nothing taken off first: a sum of them stays within float32 at any length.
SAFE = 30.0


def path(device: torch.device, rate: float) -> str:
    """Which way `attend` takes in training: "fused", torch's own kernel, or "blocks", the one below."""
    return "blocks" if rate and device.type == "cpu" else "fused"


@eager  # or its loops would be unrolled
def dropped(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor | None,
    drops: Drops,
    factor: float,
    table: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(factor q k^T + table) v, weights dropped after the softmax: see `attend`.

    table (1 or B, H, L, M), not with `causal`. q and k may have a width of their own, and one of 0.
    """
    return Dropped.apply(q, k, v, keys, table, drops, factor, causal)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor | None,
    drops: Drops | None,
    factor: float | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(factor q k^T) v, weights dropped after the softmax: q (B, H, L, E), k, v (B, H, M, E).

    factor: 1 / sqrt(E) unless said. keys bool (B, 1, 1, M), False on those that nobody sees; None: all
    are seen. causal: query i sees keys up to i, L = M; of one that sees none nothing is said but that it is finite.
    Off the CPU, and where nothing is dropped, this is `scaled_dot_product_attention`, whose
    own dropout knows of no examples.
    """
    rate = drops.rate if drops else 0.0
    if path(q.device, rate) == "blocks":
        return dropped(q, k, v, keys, drops, q.shape[3] ** -0.5 if factor is None else factor, causal=causal)
    if causal and keys is not None:
        # Both masks at once would be one of L x L for the kernel. Behind the real ones, nobody real sees what is not.
        order = real_first(keys[:, 0, 0])[:, None, :, None]
        q, k, v = (x.gather(2, order.expand_as(x)) for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True, scale=factor)
        return torch.zeros_like(y).scatter(2, order.expand_as(y), y)
    return F.scaled_dot_product_attention(q, k, v, keys, rate, causal, scale=factor)


def tiles(q: Tensor, keys: int) -> Iterator[tuple[slice, slice, list[slice]]]:
    """Cut attention of q (B, H, L, E): some examples, some heads, and the blocks of their queries."""
    batch, heads, length, _ = q.shape
    together = max(1, SCORES // (min(length, QUERIES) * keys))
    step, each = (together // heads, heads) if together >= heads else (1, together)
    for example in range(0, batch, step):
        for head in range(0, heads, each):
            count = min(step, batch - example) * min(each, heads - head)
            rows = max(FEWEST_QUERIES, SCORES // (count * keys))
            cuts = [slice(start, min(start + rows, length)) for start in range(0, length, rows)]
            yield slice(example, example + step), slice(head, head + each), cuts


class Work:
    """What both passes share: the inputs, the buffers that every tile uses again, and how the softmax is made.

    Where no query and no key is long enough for a score beyond `SAFE` (Cauchy and Schwarz), the softmax takes no
    largest score off: two passes over the scores fewer. A key that nobody sees is then one of zeros, and not counted.
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None, table: Tensor | None, drops: Drops, factor: float
    ) -> None:
        self.inputs, self.keys, self.table, self.drops, self.factor = (q, k, v), keys, table, drops, factor
        self.dtype = wide(q.dtype)
        self.held: dict[str, Tensor] = {}
        self.safe = table is None and longest(q) * longest(k, keys) * abs(factor) <= SAFE

    def buffer(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self.held or self.held[name].numel() < size:
            self.held[name] = torch.empty(size, dtype=self.dtype)
        return self.held[name][:size].view(shape)

    def together(self, x: Tensor) -> Tensor:
        """x (b, h, n, E) -> (N, n, E), N = b h: without a copy where it is of one example."""
        return x.to(self.dtype).flatten(0, 1)


def longest(x: Tensor, real: Tensor | None = None) -> float:
    """The largest norm of x (B, H, n, E), of those that are real (B, 1, 1, n)."""
    norms = torch.linalg.vector_norm(x, dim=-1, dtype=wide(x.dtype))
    if real is not None:
        norms = norms.masked_fill(~real[:, :, 0], 0.0)
    return float(norms.amax()) if norms.numel() else 0.0


class Heads:
    """Some heads of some examples, N in all, and their weights, a tile of queries at a time."""

    def __init__(self, work: Work, some: slice, heads: slice, causal: bool) -> None:
        self.work, self.some, self.heads, self.causal = work, some, heads, causal
        self.q, self.k, self.v = (work.together(x[some, heads]) for x in work.inputs)
        self.rows = work.drops.rows[some, heads].flatten(0, 1).unsqueeze(-1)
        self.columns = work.drops.columns[some, heads].flatten(0, 1).unsqueeze(-2)
        self.hidden: Tensor | None = None  # (N, M, 1)
        if work.keys is not None:
            self.hidden = ~work.keys[some, 0].mT.repeat_interleave(work.inputs[0][0, heads].shape[0], 0)
            if work.safe:
                self.k, self.v = (x.masked_fill(self.hidden, 0.0) for x in (self.k, self.v))
                self.counted = (~self.hidden).to(work.dtype)

    def seen(self, cut: slice) -> slice:
        """Of the keys, those that any of these queries may see."""
        return slice(cut.stop if self.causal else None)

    def own(self, table: Tensor, cut: slice) -> Tensor:
        """A tile (b or 1, h, n, M) of the table."""
        return table[self.some if len(table) > 1 else slice(None), self.heads, cut]

    def exponentials(self, cut: slice, less: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(N, n, M): exp of the scores, less the largest of each query or what is said (N, n, 1); and what was less."""
        work, seen = self.work, self.seen(cut)
        into = work.buffer("scores", len(self.q), cut.stop - cut.start, self.k[:, seen].shape[1])
        scores = torch.baddbmm(into, self.q[:, cut], self.k[:, seen].mT, beta=0, alpha=work.factor, out=into)
        if work.safe:
            scores.exp_()
            if self.causal:
                scores[..., cut.start :].tril_()
            return scores, None
        if work.table is not None:
            table = self.own(work.table, cut)
            scores.view(-1, *table.shape[1:]).add_(table)
        if self.hidden is not None:
            scores.masked_fill_(self.hidden[:, seen].mT, -math.inf)
        if self.causal:
            later = torch.ones(scores.shape[1], scores.shape[1], dtype=torch.bool).triu(1)
            scores[..., cut.start :].masked_fill_(later, -math.inf)
        if less is None:
            less = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(work.dtype).min)
        return scores.sub_(less).exp_(), less

    def totals(self, weights: Tensor, cut: slice) -> Tensor:
        """(N, n, 1): their sums over the keys that are seen."""
        if self.work.safe and self.hidden is not None:
            return torch.bmm(weights, self.counted[:, self.seen(cut)])
        return weights.sum(-1, keepdim=True)

    def kept(self, cut: slice) -> Tensor:
        """1 where a weight (N, n, M) is kept, else 0."""
        rows, columns = self.rows[:, cut], self.columns[..., self.seen(cut)]
        into = self.work.buffer("kept", *rows.shape[:2], columns.shape[2])
        return kept(rows, columns, self.work.drops.rate, into)


class Dropped(torch.autograd.Function):
    """`dropped`, and its gradients."""

    @staticmethod
    def forward(ctx, q, k, v, keys, table, drops: Drops, factor: float, causal: bool) -> Tensor:
        work = Work(q, k, v, keys, table, drops, factor)
        out = v.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
        # Of each query, 1 / sum exp(score) where that is safe, else log sum exp(score).
        sums = torch.empty(*q.shape[:3], 1, dtype=work.dtype)
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                here = Heads(work, some, heads, causal)
                for cut in cuts:
                    weights, top = here.exponentials(cut)
                    total = here.totals(weights, cut)
                    keep_(weights, here.kept(cut))
                    result = torch.bmm(
                        weights, here.v[:, here.seen(cut)], out=work.buffer("result", *weights.shape[:2], v.shape[3])
                    )
                    # A query that sees nothing has weights of 0, or keys of 0, and a total of 0.
                    inverse = total.reciprocal().nan_to_num_(posinf=0.0)
                    put(out[some, heads, cut], result.mul_(inverse * scale(drops.rate)))
                    put(sums[some, heads, cut], inverse if top is None else total.log_().add_(top))
        if not work.safe:
            sums.nan_to_num_(neginf=0.0)
        ctx.save_for_backward(q, k, v, keys, table, out, sums)
        ctx.drops, ctx.factor, ctx.causal, ctx.safe = drops, factor, causal, work.safe
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, keys, table, out, sums = ctx.saved_tensors
        work = Work(q, k, v, keys, table, ctx.drops, ctx.factor)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        dtable = torch.zeros_like(table, dtype=work.dtype) if ctx.needs_input_grad[4] else None
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                here = Heads(work, some, heads, ctx.causal)
                dks, dvs = work.buffer("dk", *here.k.shape).zero_(), work.buffer("dv", *here.v.shape).zero_()
                less, g = sums[some, heads].flatten(0, 1), work.together(grad[some, heads])
                # The softmax takes off sum_j weights_j dweights_j, which is g . out whatever was dropped.
                mean = work.together(out[some, heads]).mul(g).sum(-1, keepdim=True)
                g = g * scale(ctx.drops.rate)
                if work.safe:  # what divides the weights is taken on their other side
                    g, mean = g.mul_(less), mean.mul_(less)
                for cut in cuts:
                    seen, qs, gs = here.seen(cut), here.q[:, cut], g[:, cut]
                    weights, _ = here.exponentials(cut, less[:, cut])
                    left = here.kept(cut)
                    left = left.mul_(weights.view(left.dtype)).view(weights.dtype)
                    dvs[:, seen].baddbmm_(left.mT, gs)
                    dscores = torch.bmm(gs, here.v[:, seen].mT, out=work.buffer("step", *weights.shape))
                    dscores.mul_(left).addcmul_(weights, mean[:, cut], value=-1)
                    if dtable is not None:
                        into = here.own(dtable, cut)
                        into += dscores.view(-1, *into.shape[1:]).sum_to_size(into.shape)
                    dks[:, seen].baddbmm_(dscores.mT, qs, alpha=ctx.factor)
                    into = work.buffer("result", *qs.shape)
                    put(
                        dq[some, heads, cut],
                        torch.baddbmm(into, dscores, here.k[:, seen], beta=0, alpha=ctx.factor, out=into),
                    )
                for into, of in ((dk, dks), (dv, dvs)):
                    if here.hidden is not None:
                        of.masked_fill_(here.hidden, 0.0)
                    put(into[some, heads], of)
        return dq, dk, dv, None, None if dtable is None else dtable.to(table.dtype), None, None, None


def put(into: Tensor, x: Tensor) -> None:
    """Write (b h, n, E) to (b, h, n, E) of any layout and type."""
    into.copy_(x.view(into.shape))
