"""Softmax attention over all keys with dropout on the weights, for CPUs, where no fused kernel has it.

Scores are made for some queries at a time, all keys of each, in buffers that stay in cache, and made
again in the backward pass from the log-sum-exp of the forward pass (Dao et al. 2022, arXiv 2205.14135,
section 3.1); which weights are dropped follows from where they stand (`chance`). Time O(L M E) a head.
Memory O((L + M) E), as of fused attention: q, k, v, the output and one number a query are kept.
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
FEWEST_QUERIES = 128
LOG2_E = 1 / math.log(2)


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
    together = max(1, SCORES // (min(length, FEWEST_QUERIES) * keys))
    step, each = (together // heads, heads) if together >= heads else (1, together)
    for example in range(0, batch, step):
        for head in range(0, heads, each):
            count = min(step, batch - example) * min(each, heads - head)
            rows = max(FEWEST_QUERIES // 2, SCORES // (count * keys))
            cuts = [slice(start, min(start + rows, length)) for start in range(0, length, rows)]
            yield slice(example, example + step), slice(head, head + each), cuts


class Work:
    """What both passes need of a tile, and the buffers they use again for every tile."""

    def __init__(
        self, dtype: torch.dtype, keys: Tensor | None, table: Tensor | None, drops: Drops, causal: bool
    ) -> None:
        self.dtype, self.keys, self.table, self.drops, self.causal = wide(dtype), keys, table, drops, causal
        self.held: dict[str, Tensor] = {}

    def buffer(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self.held or self.held[name].numel() < size:
            self.held[name] = torch.empty(size, dtype=self.dtype)
        return self.held[name][:size].view(shape)

    def take(self, name: str, x: Tensor) -> Tensor:
        """x (b, h, n, E) of any layout -> (b h, n, E) in a buffer."""
        into = self.buffer(name, *x.shape)
        return into.copy_(x).flatten(0, 1)

    def bias(self, some: slice, heads: int) -> Tensor | None:
        """What is added to the scores, (b h, 1, M), -inf at keys that nobody sees."""
        if self.keys is None:
            return None
        hidden = ~self.keys[some, 0].repeat_interleave(heads, 0)
        return torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, -math.inf)

    def scores(self, q: Tensor, k: Tensor, bias: Tensor | None, at: tuple[slice, slice, slice]) -> Tensor:
        """(N, n, M) in units of log 2, as q is scaled; `causal`: of the keys up to the last of these queries."""
        scores = torch.bmm(q, k.mT, out=self.buffer("scores", *q.shape[:2], k.shape[1]))
        if self.table is not None:
            table = self.own(self.table, at)
            scores.view(-1, *table.shape[1:]).add_(table, alpha=LOG2_E)
        if bias is not None:
            scores.add_(bias[..., : k.shape[1]])
        if self.causal:
            later = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
            scores[..., at[2].start :].masked_fill_(later, -math.inf)
        return scores

    def seen(self, at: tuple[slice, slice, slice]) -> slice:
        """Of the keys, those that any of these queries may see."""
        return slice(at[2].stop if self.causal else None)

    @staticmethod
    def own(table: Tensor, at: tuple[slice, slice, slice]) -> Tensor:
        """A tile (b or 1, h, n, M) of the table."""
        return table[at if len(table) > 1 else (slice(None), *at[1:])]

    def kept(self, at: tuple[slice, slice, slice]) -> Tensor:
        """1 where a weight (N, n, M) is kept, else 0."""
        rows = self.drops.rows[at].flatten(0, 1).unsqueeze(-1)
        columns = self.drops.columns[at[:2]].flatten(0, 1).unsqueeze(-2)[..., self.seen(at)]
        return kept(rows, columns, self.drops.rate, self.buffer("kept", *rows.shape[:2], columns.shape[2]))


class Dropped(torch.autograd.Function):
    """`dropped`, and its gradients."""

    @staticmethod
    def forward(ctx, q, k, v, keys, table, drops: Drops, factor: float, causal: bool) -> Tensor:
        work = Work(q.dtype, keys, table, drops, causal)
        out = v.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
        log_sums = torch.empty(*q.shape[:3], 1, dtype=work.dtype)
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                ks, vs = work.take("k", k[some, heads]), work.take("v", v[some, heads])
                bias = work.bias(some, q[0, heads].shape[0])
                for at in ((some, heads, cut) for cut in cuts):
                    seen = work.seen(at)
                    weights = work.scores(work.take("q", q[at]).mul_(factor * LOG2_E), ks[:, seen], bias, at)
                    top = weights.amax(-1, keepdim=True).clamp_(min=torch.finfo(work.dtype).min)
                    total = weights.sub_(top).exp2_().sum(-1, keepdim=True)
                    put(log_sums[at], top.add_(total.log2()))
                    keep_(weights, work.kept(at))
                    result = torch.bmm(weights, vs[:, seen], out=work.buffer("result", *weights.shape[:2], vs.shape[2]))
                    put(out[at], result.mul_(scale(drops.rate) / total.clamp_(min=torch.finfo(work.dtype).tiny)))
        # A query that sees nothing has weights 2^(-inf - 0) = 0.
        log_sums.nan_to_num_(neginf=0.0)
        ctx.save_for_backward(q, k, v, keys, table, out, log_sums)
        ctx.drops, ctx.factor, ctx.causal = drops, factor, causal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, keys, table, out, log_sums = ctx.saved_tensors
        work, drops, factor = Work(q.dtype, keys, table, ctx.drops, ctx.causal), ctx.drops, ctx.factor
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        dtable = torch.zeros_like(table, dtype=work.dtype) if ctx.needs_input_grad[4] else None
        with no_autocast(q):
            for some, heads, cuts in tiles(q, k.shape[2]):
                ks, vs = work.take("k", k[some, heads]), work.take("v", v[some, heads])
                dks, dvs = work.buffer("dk", *ks.shape).zero_(), work.buffer("dv", *vs.shape).zero_()
                bias = work.bias(some, q[0, heads].shape[0])
                for at in ((some, heads, cut) for cut in cuts):
                    seen = work.seen(at)
                    qs, g = work.take("q", q[at]).mul_(factor * LOG2_E), work.take("g", grad[at])
                    weights = work.scores(qs, ks[:, seen], bias, at).sub_(log_sums[at].flatten(0, 1)).exp2_()
                    # The softmax takes off sum_j weights_j dweights_j, which is g . out whatever was dropped.
                    mean = work.take("result", out[at]).mul_(g).sum(-1, keepdim=True)
                    g.mul_(scale(drops.rate))
                    dweights = torch.bmm(g, vs[:, seen].mT, out=work.buffer("step", *weights.shape))
                    ones = work.kept(at)
                    keep_(dweights, ones)
                    dvs[:, seen].baddbmm_(ones.mul_(weights.view(ones.dtype)).view(weights.dtype).mT, g)
                    dscores = dweights.sub_(mean).mul_(weights)
                    if dtable is not None:
                        into = work.own(dtable, at)
                        into += dscores.view(-1, *into.shape[1:]).sum_to_size(into.shape)
                    dks[:, seen].baddbmm_(dscores.mT, qs, alpha=1 / LOG2_E)
                    put(dq[at], torch.bmm(dscores, ks[:, seen], out=work.buffer("result", *qs.shape)).mul_(factor))
                put(dk[some, heads], dks)
                put(dv[some, heads], dvs)
        return dq, dk, dv, None, None if dtable is None else dtable.to(table.dtype), None, None, None


def put(into: Tensor, x: Tensor) -> None:
    """Write (b h, n, E) to (b, h, n, E) of any layout and type."""
    into.copy_(x.view(into.shape))
