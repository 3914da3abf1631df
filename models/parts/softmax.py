"""Softmax attention over all keys with dropout on the weights, for CPUs, where no fused kernel has it.

Scores are made for some queries and some keys at a time, in buffers that stay in cache, and made again
in the backward pass from the output and one number a query (Dao et al. 2022, arXiv 2205.14135, section
3.1 and, for what the softmax takes off, appendix B.4); which weights are dropped follows from where they
stand (`chance`). Time O(L M E) a head. Memory O((L + M) E), as of fused attention: q, k, v, the output and
one number a query are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts.chance import Drops, drawn, keep, scale
from lra.models.parts.eager import eager
from lra.models.parts.heads import real_first
from lra.models.parts.tiles import no_autocast, wide

# Scores held at once, of which there are three buffers: they stay in a core's L2 cache, or nearly so.
SCORES = 1 << 17
KEYS = 256  # at once, at most: of more, or with fewer queries, products take longer, as their factors leave the cache
QUERIES = 512  # of a head that are taken before another head is taken with them
FEWEST_QUERIES = 64  # where all keys are taken at once
LOG2_E = 1 / math.log(2)
# A sum of exponentials within these bounds was made without overflow, of terms none of which fell out that matters,
# and a gradient may be divided by it: it is as good as one from which the largest score was taken off first.
LEAST, MOST = math.exp(-50.0), math.exp(50.0)
# Below the largest by so much, a weight is lost in any sum with it. exp() of less falls out of float32, which takes
# fifty times as long.
LOST = -80.0


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


def sizes(q: Tensor, keys: int) -> tuple[int, int, int]:
    """Examples, heads and queries that a tile of attention of q (B, H, L, E) has, which has so many keys."""
    batch, heads, length, _ = q.shape
    together = max(1, SCORES // (min(length, QUERIES) * keys))
    step, each = (min(together // heads, batch), heads) if together >= heads else (1, together)
    return step, each, max(FEWEST_QUERIES, SCORES // (step * each * keys))


def tiles(q: Tensor, keys: int) -> Iterator[tuple[slice, slice, list[slice]]]:
    """Cut attention of q (B, H, L, E), so many keys at once: some examples, some heads, the blocks of queries."""
    batch, heads, length, _ = q.shape
    step, each, rows = sizes(q, keys)
    cuts = [slice(start, min(start + rows, length)) for start in range(0, length, rows)]
    for example in range(0, batch, step):
        for head in range(0, heads, each):
            yield slice(example, example + step), slice(head, head + each), cuts


class Work:
    """What both passes share: the inputs, the buffers that every tile uses again, and how the softmax is made.

    bold: queries are first taken with no largest score taken off, two passes over the scores fewer; the first whose
    sums say that it should have been are taken again, and those after them so at once. A key that nobody sees is
    then one of zeros, and not counted; where there is a table, a weight of zero.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keys: Tensor | None,
        table: Tensor | None,
        drops: Drops,
        factor: float,
        causal: bool,
    ) -> None:
        self.inputs, self.keys, self.table, self.drops = (q, k, v), keys, table, drops
        self.factor, self.causal, self.dtype = factor, causal, wide(q.dtype)
        self.held: dict[str, tuple[Tensor, dict]] = {}
        seen = k.shape[2]
        self.at_once = math.ceil(seen / math.ceil(seen / KEYS))
        self.step, self.each, self.queries = sizes(q, self.at_once)
        self.scale, self.bold = scale(drops.rate), True

    def buffer(self, name: str, *shape: int) -> Tensor:
        whole, views = self.held.get(name, (None, {}))
        if shape not in views:
            size = math.prod(shape)
            if whole is None or whole.numel() < size:
                whole, views = torch.empty(size, dtype=self.dtype), {}
                self.held[name] = whole, views
            views[shape] = whole[:size].view(shape)
        return views[shape]

    def apart(self, x: Tensor) -> Iterator[Tensor]:
        """x (B, H, n, E), tile by tile: (N, n, E), N = h, of one example, else (b, h, n, E). Views, many by one call:
        made by slices one by one they take a tenth of the time of short keys."""
        if self.step > 1:
            return iter(x.split(self.step))
        return (part for one in x.unbind() for part in one.split(self.each))

    def inputs_apart(self, x: Tensor) -> Iterator[Tensor]:
        """As (N, n, E), N = b h, in the type to compute in: without a copy where it is of one example and has it."""
        parts = self.apart(x)
        if self.step > 1:
            parts = (part.flatten(0, 1) for part in parts)
        return parts if x.dtype in (self.dtype, torch.int32) else (part.to(self.dtype) for part in parts)

    def heads(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Iterator[tuple[Heads, ...]]:
        """Tile by tile, its heads, and its parts of more inputs and of the outputs (B, H, n, E)."""
        q, k, v = self.inputs
        inputs = (q, k, v, self.drops.rows.unsqueeze(-1), self.drops.columns.unsqueeze(-2), *inputs)
        where = ((some, heads) for some, heads, _ in tiles(q, self.at_once))
        sides = (*map(self.inputs_apart, inputs), *map(self.apart, outputs))
        for at, q, k, v, rows, columns, *parts in zip(where, *sides, strict=True):
            yield Heads(self, *at, q, k, v, rows, columns), *parts

    def room(self, name: str, output: Tensor) -> Tensor:
        """(N, n, E), to write what goes to a part of an output: itself, if it has that form and type."""
        if output.dim() == 3 and output.dtype == self.dtype:
            return output
        return self.buffer(name, output.shape[:-2].numel(), *output.shape[-2:])


class Heads:
    """Some heads of some examples, N in all, and their weights, of a cut i of the queries to a cut j of the keys."""

    def __init__(
        self, work: Work, some: slice, heads: slice, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor
    ) -> None:
        self.work, self.some, self.heads = work, some, heads
        self.hidden: Tensor | None = None  # (N, M, 1)
        if work.keys is not None:
            hidden = ~work.keys[some, 0].mT
            self.hidden = hidden.repeat_interleave(len(q) // len(hidden), 0)
            k, v = (x.masked_fill(self.hidden, 0.0) for x in (k, v))
            self.gone = self.keys_cut(self.hidden)
            self.counted = self.keys_cut((~self.hidden).to(work.dtype))
        self.q = self.queries_cut(q, rows)
        self.k, self.v = self.keys_cut(k), self.keys_cut(v)
        self.columns = columns.split(work.at_once, -1)

    def queries_cut(self, *sides: Tensor) -> list[tuple[Tensor, ...]]:
        """Queries, or what belongs to them, (..., L, E): some of them at a time."""
        return list(zip(*(x.split(self.work.queries, -2) for x in sides), strict=True))

    def keys_cut(self, x: Tensor) -> tuple[Tensor, ...]:
        """Keys, or what belongs to them, (N, M, E): some of them at a time."""
        return x.split(self.work.at_once, -2)

    def seen(self, i: int) -> range:
        """The cuts of keys of which any query of a cut may see some."""
        cuts, work = len(self.k), self.work
        return range(min(cuts, math.ceil((i + 1) * work.queries / work.at_once)) if work.causal else cuts)

    def own(self, table: Tensor, i: int, j: int) -> Tensor:
        """A tile (b or 1, h, n, m) of the table."""
        row, column = i * self.work.queries, j * self.work.at_once
        part = table[self.some if len(table) > 1 else slice(None), self.heads, row : row + self.work.queries]
        return part[..., column : column + self.work.at_once]

    def scores(self, i: int, j: int) -> Tensor:
        """(N, n, m), hidden keys and later ones among them."""
        work, q, k = self.work, self.q[i][0], self.k[j]
        into = work.buffer("scores", *q.shape[:2], k.shape[1])
        scores = torch.baddbmm(into, q, k.mT, beta=0, alpha=work.factor, out=into)
        if work.table is not None:
            table = self.own(work.table, i, j)
            scores.view(-1, *table.shape[1:]).add_(table)
        return scores

    def earlier(self, weights: Tensor, i: int, j: int) -> Tensor:
        """(N, n, m): 0 in place of weights of later keys, if it is causal."""
        behind = i * self.work.queries - j * self.work.at_once
        return weights.tril_(behind) if self.work.causal and behind < weights.shape[2] - 1 else weights

    def bold(self, i: int, j: int) -> Tensor:
        """(N, n, m): exp of the scores."""
        weights = self.scores(i, j).exp_()
        if self.hidden is not None and self.work.table is not None:
            weights.masked_fill_(self.gone[j].mT, 0.0)
        return self.earlier(weights, i, j)

    def shown(self, i: int, j: int) -> Tensor:
        """(N, n, m): the scores, of keys that are not seen -inf."""
        scores = self.scores(i, j)
        if self.hidden is not None:
            scores.masked_fill_(self.gone[j].mT, -math.inf)
        if self.work.causal:
            later = torch.ones(scores.shape[1:], dtype=torch.bool)
            scores.masked_fill_(later.triu_(1 + i * self.work.queries - j * self.work.at_once), -math.inf)
        return scores

    def largest(self, i: int) -> Tensor:
        """(N, n, 1): of each query the largest score, or the lowest number there is if no key is seen."""
        tops = [self.shown(i, j).amax(-1, keepdim=True) for j in self.seen(i)]
        return torch.cat(tops, -1).amax(-1, keepdim=True).clamp_(min=torch.finfo(self.work.dtype).min)

    def careful(self, i: int, j: int, less: Tensor) -> Tensor:
        """(N, n, m): exp of the scores, less what is said (N, n, 1)."""
        weights = self.shown(i, j).sub_(less).clamp_(min=LOST).exp_()
        return self.earlier(weights, i, j)  # hidden keys have values of 0

    def summed(self, i: int, into: Tensor, less: Tensor | None) -> Tensor:
        """The sums over the keys that are seen (N, n, 1) of the weights, which are careful ones if `less` is given.

        into (N, n, E): with those that are dropped left out, the sums of weight times value.
        """
        work, total = self.work, 0
        for j in self.seen(i):
            weights = self.bold(i, j) if less is None else self.careful(i, j, less)
            if less is not None or self.hidden is None:
                total = weights.sum(-1, keepdim=True).add_(total)
            else:
                total = torch.bmm(weights, self.counted[j]).add_(total)
            keep(weights, self.drawn(i, j), work.drops.rate, weights)
            torch.baddbmm(into, weights, self.v[j], beta=float(j > 0), alpha=work.scale, out=into)
        return total

    def attended(self, i: int, into: Tensor) -> tuple[Tensor, Tensor | None]:
        """`summed`, of the bold weights if they will do, else of those less the largest score, which is told."""
        if self.work.bold:
            total = self.summed(i, into, None)
            low, high = total.aminmax()
            if low.item() >= LEAST and high.item() <= MOST:
                return total, None
            self.work.bold = False
        top = self.largest(i)
        # The largest is 1, if any is seen.
        return self.summed(i, into, top).clamp_(min=1), top

    def drawn(self, i: int, j: int) -> Tensor:
        """The numbers that tell which weights (N, n, m) are kept."""
        rows, columns = self.q[i][1], self.columns[j]
        return drawn(rows, columns, self.work.buffer("drawn", *rows.shape[:2], columns.shape[2]))


class Dropped(torch.autograd.Function):
    """`dropped`, and its gradients."""

    @staticmethod
    def forward(ctx, q, k, v, keys, table, drops: Drops, factor: float, causal: bool) -> Tensor:
        work = Work(q, k, v, keys, table, drops, factor, causal)
        out = v.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
        # Of each query sum exp(score), of those that are made with care its logarithm.
        sums, care = torch.empty(*q.shape[:3], 1, dtype=work.dtype), []
        with no_autocast(q):
            for here, *outputs in work.heads((), (out, sums)):
                for i, (out_, sum_) in enumerate(here.queries_cut(*outputs)):
                    y = work.room("result", out_)
                    total, top = here.attended(i, y)
                    care.append(top is not None)
                    put(out_, y.div_(total))
                    put(sum_, total if top is None else total.log_().add_(top))
        ctx.save_for_backward(q, k, v, keys, table, out, sums)
        ctx.options, ctx.care = (drops, factor, causal), care
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, keys, table, out, sums = ctx.saved_tensors
        work, care = Work(q, k, v, keys, table, *ctx.options), iter(ctx.care)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        dtable = torch.zeros_like(table, dtype=work.dtype) if ctx.needs_input_grad[4] else None
        with no_autocast(q):
            for here, grads, outs, totals, dq_, dk_, dv_ in work.heads((grad, out, sums), (dq, dk, dv)):
                dks, dvs = (work.room(name, x).zero_() for name, x in (("dk", dk_), ("dv", dv_)))
                dks_cut, dvs_cut = here.keys_cut(dks), here.keys_cut(dvs)
                for i, (g, y, total, into) in enumerate(here.queries_cut(grads, outs, totals, dq_)):
                    careful, dqs = next(care), work.room("result", into)
                    if not careful:  # what divides the weights is taken on their other side
                        g = torch.div(g, total, out=work.buffer("grad", *g.shape))
                    mean = (g * y).sum(-1, keepdim=True)  # what the softmax takes off
                    for j in here.seen(i):
                        weights = here.careful(i, j, total) if careful else here.bold(i, j)
                        left = here.drawn(i, j)
                        left = keep(weights, left, work.drops.rate, left.view(work.dtype))
                        dvs_cut[j].baddbmm_(left.mT, g, alpha=work.scale)
                        dscores = work.buffer("step", *weights.shape)
                        torch.baddbmm(dscores, g, here.v[j].mT, beta=0, alpha=work.scale, out=dscores)
                        dscores.mul_(left).addcmul_(weights, mean, value=-1)
                        if dtable is not None:
                            own = here.own(dtable, i, j)
                            own += dscores.view(-1, *own.shape[1:]).sum_to_size(own.shape)
                        dks_cut[j].baddbmm_(dscores.mT, here.q[i][0], alpha=work.factor)
                        torch.baddbmm(dqs, dscores, here.k[j], beta=float(j > 0), alpha=work.factor, out=dqs)
                    put(into, dqs)
                for into, of in ((dk_, dks), (dv_, dvs)):
                    if here.hidden is not None:
                        of.masked_fill_(here.hidden, 0.0)
                    put(into, of)
        return dq, dk, dv, None, None if dtable is None else dtable.to(table.dtype), None, None, None


def put(into: Tensor, x: Tensor) -> None:
    """Write (N, n, E) to the part of an output that it was made for."""
    if into is not x:
        into.copy_(x.view(into.shape))
