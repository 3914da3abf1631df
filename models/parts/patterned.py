"""What the block-patterned models share: gather the keys of a block of queries, attend, scatter.

A pattern is a list of `Part`s: blocks of W query positions, each with the M key positions that the
block may see. Nothing else is asked of it, so contiguous blocks, sliding windows, dilation, columns,
random links and global tokens are all lists of positions, and one routine serves them all.

`attend` goes through the blocks a few at a time: it gathers queries and keys into buffers that fit
in cache and are used again, and in the backward pass computes the scores anew from the log-sum-exp
of the forward pass (Dao et al. 2022, arXiv 2205.14135, section 3.1). Time O(L M E) per head, memory
O(L E) per head whatever M: what is kept is q, k, v, the output and one number a query and head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lra.models.parts import softmax
from lra.models.parts.chance import Drops, drawn, keep, keep_both, scale
from lra.models.parts.eager import eager
from lra.models.parts.flex import flex_attend, flex_ready
from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.pattern import Part, Rule, everything
from lra.models.parts.tiles import no_autocast, wide

BACKENDS = ("auto", "blocks", "flex")
# Scores, queries and keys held at once. On CPUs they stay in cache; GPUs need the work in large pieces.
NUMBERS_AT_ONCE = {"cpu": 2**20}
NUMBERS_AT_ONCE_ELSEWHERE = 2**26
LOG2_E = 1 / math.log(2)
PATTERNS_KEPT = 8, 2**18  # in any case, and more while all hold no more numbers


class Buffers:
    """Scratch memory, by name, used again from chunk to chunk."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device, self.held = dtype, device, {}

    def take(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self.held or self.held[name].numel() < size:
            self.held[name] = torch.empty(size, dtype=self.dtype, device=self.device)
        return self.held[name][:size].view(shape)

    def rows(self, name: str, source: Tensor, index: Tensor) -> Tensor:
        """source (R, E), index (N, W) -> (N, W, E) in the dtype of the buffers."""
        into = self.take(name, index.numel(), source.shape[1])
        if source.dtype == self.dtype:
            torch.index_select(source, 0, index.flatten(), out=into)
        else:
            into.copy_(source.index_select(0, index.flatten()))
        return into.view(*index.shape, -1)


def chunks(part: Part, shape: torch.Size, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Go through all (example, head, block) of a part, some at a time.

    shape is (B, L, H, E); mask (B, L) or None if nothing is hidden. Yields rows of the (B x L x H, E)
    tables, queries (N, W) with row B x L x H for none and keys (N, M), and what to add to the
    scores, (N, 1, M) or None.
    """
    batch, length, all_heads, head_width = shape
    blocks, width = part.queries.shape
    shared, _, seen = part.keys.shape
    first, end = part.heads
    count, device = end - first, part.keys.device
    numbers = NUMBERS_AT_ONCE.get(device.type, NUMBERS_AT_ONCE_ELSEWHERE)
    at_once = max(1, numbers // (width * seen + (width + seen) * head_width))
    units = batch * count * blocks
    for start in range(0, units, at_once):
        unit = torch.arange(start, min(start + at_once, units), device=device)
        block, head, example = unit % blocks, unit // blocks % count, unit // (blocks * count)
        row = example * length
        query = part.queries.index_select(0, block)
        query_rows = (query + row[:, None]) * all_heads + (head + first)[:, None]
        query_rows = query_rows.masked_fill(query < 0, batch * length * all_heads)
        key = part.keys.flatten(0, 1).index_select(0, block if shared == 1 else head * blocks + block)
        seen_here = key >= 0
        key = key.clamp(min=0) + row[:, None]
        if mask is not None:
            seen_here &= mask.flatten().index_select(0, key.flatten()).view_as(key)
        bias = None
        # Asking costs a synchronisation on a GPU, and on CPUs much less than adding zeros.
        if device.type != "cpu" or not seen_here.all():
            bias = torch.zeros(key.shape, device=device).masked_fill_(~seen_here, -math.inf)[:, None]
        yield query_rows, key * all_heads + (head + first)[:, None], bias


class Attend(torch.autograd.Function):
    """softmax(q k^T / sqrt(E)) v over the keys of `parts`; q, k, v (B, L, H, E) contiguous, `drops` (B x L x H,)."""

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, parts: Sequence[Part], drops: Drops | None
    ) -> Tensor:
        width = q.shape[3]
        rows = q.numel() // width
        dtype = wide(q.dtype)
        buffers = Buffers(dtype, q.device)
        # One row more, for queries that are none.
        out = torch.zeros(rows + 1, width, dtype=dtype, device=q.device)
        logsumexp = torch.full((rows + 1, 1), -math.inf, dtype=dtype, device=q.device)
        flat = [x.view(rows, width) for x in (q, k, v)]
        for part in parts:
            for query_rows, key_rows, bias in chunks(part, q.shape, mask):
                scores, _ = score(buffers, flat, part, query_rows, key_rows, bias)
                top = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(dtype).min)
                weights = scores.sub_(top).exp2_()
                total = weights.sum(-1, keepdim=True)
                here = top.add_(total.log2())
                if drops:
                    keep(weights, numbers(buffers, drops, query_rows, key_rows), drops.rate, weights)
                values = buffers.rows("keys", flat[2], key_rows)
                result = torch.bmm(weights, values, out=buffers.take("result", *query_rows.shape, width))
                result.div_(total.clamp_(min=torch.finfo(dtype).tiny))
                if drops:
                    result.mul_(scale(drops.rate))
                result, here, index = result.flatten(0, 1), here.view(-1, 1), query_rows.flatten()
                if part.joins:
                    before = logsumexp.index_select(0, index)
                    both = torch.logaddexp2(before, here)
                    finite = both.clamp(min=torch.finfo(dtype).min)
                    result.mul_((here - finite).exp2_())
                    result.add_(out.index_select(0, index).mul_((before - finite).exp2_()))
                    here = both
                out.index_copy_(0, index, result)
                logsumexp.index_copy_(0, index, here)
        # A query that sees nothing has weights 2^(-inf - 0) = 0; one that is none, 2^(x - inf) = 0.
        logsumexp.nan_to_num_(neginf=0.0)
        logsumexp[rows:] = math.inf
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, mask, out, logsumexp)
        ctx.parts, ctx.drops = parts, drops
        return out[:rows].view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        q, k, v, mask, out, logsumexp = ctx.saved_tensors
        width = q.shape[3]
        rows = q.numel() // width
        buffers = Buffers(logsumexp.dtype, q.device)
        flat = [x.view(rows, width) for x in (q, k, v)]
        grad = grad.contiguous().view(rows, width)
        dq, dk, dv = (torch.zeros(rows, width, dtype=logsumexp.dtype, device=q.device) for _ in range(3))
        for part in ctx.parts:
            for query_rows, key_rows, bias in chunks(part, q.shape, mask):
                weights, queries = score(buffers, flat, part, query_rows, key_rows, bias)
                weights.sub_(logsumexp.index_select(0, query_rows.flatten()).view(*query_rows.shape, 1)).exp2_()
                keys = buffers.take("keys", *key_rows.shape, width)
                query_rows = query_rows.clamp(max=rows - 1)
                index = query_rows.flatten()
                back = buffers.rows("back", grad, query_rows)
                delta = buffers.rows("result", out, query_rows).mul_(back).sum(-1, keepdim=True)
                values = buffers.rows("values", flat[2], key_rows)
                if ctx.drops:
                    back.mul_(scale(ctx.drops.rate))
                step = torch.bmm(back, values.mT, out=buffers.take("step", *weights.shape))
                dropped = weights
                if ctx.drops:
                    z = numbers(buffers, ctx.drops, query_rows, key_rows)
                    dropped = keep_both(weights, step, z, ctx.drops.rate)
                # The values are no longer needed: their buffer takes what goes to the keys' rows.
                torch.bmm(dropped.mT, back, out=values)
                dv.index_add_(0, key_rows.flatten(), values.flatten(0, 1))
                step.sub_(delta).mul_(weights)
                torch.bmm(step, keys, out=back).mul_(width**-0.5)
                dq.index_add_(0, index, back.flatten(0, 1))
                torch.bmm(step.mT, queries.div_(LOG2_E), out=values)
                dk.index_add_(0, key_rows.flatten(), values.flatten(0, 1))
        return *(g.view(q.shape).to(q.dtype) for g in (dq, dk, dv)), None, None, None


def score(
    buffers: Buffers, flat: Sequence[Tensor], part: Part, query_rows: Tensor, key_rows: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores in units of log 2 (N, W, M), -inf where nothing is seen, and the queries scaled so (N, W, E).

    Powers of two, because MKL's exp is 5 to 40 times slower on -inf and on what underflows.
    """
    queries = buffers.rows("queries", flat[0], query_rows.clamp(max=len(flat[0]) - 1))
    queries.mul_(LOG2_E * queries.shape[-1] ** -0.5)
    keys = buffers.rows("keys", flat[1], key_rows)
    scores = torch.bmm(queries, keys.mT, out=buffers.take("scores", *query_rows.shape, key_rows.shape[-1]))
    for added in (part.band, bias):
        if added is not None:
            scores.add_(added)
    return scores, queries


def numbers(buffers: Buffers, drops: Drops, query_rows: Tensor, key_rows: Tensor) -> Tensor:
    """`drawn` for the weights (N, W, M) of these rows of the tables, the same in both passes."""
    rows, columns = drops.rows, drops.columns
    rows = rows.index_select(0, query_rows.clamp(max=len(rows) - 1).flatten()).view(*query_rows.shape, 1)
    columns = columns.index_select(0, key_rows.flatten()).view(len(key_rows), 1, -1)
    return drawn(rows, columns, buffers.take("drawn", *query_rows.shape, key_rows.shape[-1]))


def attend_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, first: int, drops: Drops | None) -> Tensor:
    """`attend` where the queries from `first` on see every key, and those before it none."""
    keys = None if all_real(mask) else mask[:, None, None]
    if not first:
        return softmax.attend(q, k, v, keys, drops)
    if drops:
        drops = drops._replace(rows=drops.rows[:, :, first:])
    y = softmax.attend(q[:, :, first:], k, v, keys, drops)
    return F.pad(y.transpose(1, 2), (0, 0, 0, 0, first, 0)).transpose(1, 2)


@eager
def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, parts: Sequence[Part], drops: Drops | None = None) -> Tensor:
    """Attention over a pattern: q, k, v (B, H, L, E) and mask (B, L) give (B, H, L, E).

    A query whose keys are all hidden gets zeros. Scores are computed in float32 (float64 for
    float64). `drops` says which weights are dropped, over all positions.
    """
    hides = None if all_real(mask) else mask
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    with no_autocast(q):
        if drops:
            drops = drops._replace(rows=drops.rows.mT.flatten(), columns=drops.columns.mT.flatten())
        return Attend.apply(q, k, v, hides, parts, drops).transpose(1, 2)


def same(made_from: Sequence[tuple[Tensor, int | None]], now: Sequence[tuple[Tensor, int | None]]) -> bool:
    """Are these the very tensors, and known not to have been written to since?"""
    return len(made_from) == len(now) and all(
        old is new and count is not None and count == again
        for (old, count), (new, again) in zip(made_from, now, strict=True)
    )


class Made(NamedTuple):
    """A pattern for one length: from which buffers it was made, its parts and, if that is so of all queries that
    stand in them, from which query on everything is seen."""

    made_from: list[tuple[Tensor, int | None]]
    parts: list[Part]
    first: int | None

    @property
    def numbers(self) -> int:
        return sum(part.queries.numel() + part.keys.numel() for part in self.parts)


class Patterned(MultiHead):
    """Base of the mixers whose pattern depends on positions alone.

    A subclass says twice, in two ways, who sees whom: `parts(length)`, the lists that are computed
    with, and `rule(length)`, a function of tensors of indices (head, query, key) that is True where
    the query sees the key, which `flex_attention` needs and which the tests compare with. It closes
    over numbers and tensors only, so that it can be compiled.

    backend: "blocks" is `attend` above, on any device; "flex" is compiled `flex_attention`, CUDA
    only and without dropout on the weights, which it does not have; "auto" is flex where it can
    run and blocks elsewhere. On a CPU, an input so short that everything is seen gets full attention.

    Raises ValueError for an unknown backend.
    """

    def __init__(self, dim: int, heads: int, max_len: int, backend: str = "auto", **options) -> None:
        super().__init__(dim, heads, max_len, **options)
        if backend not in BACKENDS:
            raise ValueError(f"model.mixer.backend: {backend!r} is not one of {', '.join(BACKENDS)}")
        self.backend = backend
        self.patterns: dict = {}

    def parts(self, length: int) -> list[Part]:
        raise NotImplementedError

    def rule(self, length: int) -> Rule:
        raise NotImplementedError

    def pattern(self, length: int) -> Tensor:
        """(H, L, L) bool, row the query: for tests and drawings."""
        position = torch.arange(length)
        seen = self.rule(length)(torch.arange(self.heads)[:, None, None], position[:, None], position)
        return seen.expand(self.heads, length, length)

    def parts_on(self, length: int, device: torch.device) -> Made:
        """`parts`, kept for the lengths that were seen last, as long as the buffers are what they were then."""
        key, made_from = (length, str(device)), self.sources()
        if key not in self.patterns or not same(self.patterns[key].made_from, made_from):
            self.patterns.pop(key, None)
            few, numbers = PATTERNS_KEPT
            while len(self.patterns) >= few and sum(made.numbers for made in self.patterns.values()) > numbers:
                self.patterns.pop(next(iter(self.patterns)))
            with torch.device("cpu"):
                parts = [part.trimmed() for part in self.parts(length) if (part.queries >= 0).any()]
                first = everything(parts, self.rule(length), self.heads, length) if device.type == "cpu" else None
            self.patterns[key] = Made(made_from, [part.to(device) for part in parts], first)
        return self.patterns[key]

    def sources(self) -> list[tuple[Tensor, int | None]]:
        """What a pattern may be made from: the buffers, and how often each was written to (None: nobody counts)."""
        return [(b, None if b.is_inference() else b._version) for b in self.buffers(recurse=False)]

    def __getstate__(self) -> dict:
        # The buffers of a copy are others, and count what is written to them from the start.
        return self.__dict__ | {"patterns": {}}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if not all_real(mask):
            # A weight of zero does not stop a NaN in the padding.
            x = x.masked_fill(~mask[..., None], 0)
        return self.finish(super().forward(x, mask), x, mask)

    def finish(self, y: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """What a subclass does to the output y, given the input x with zeros in the padding."""
        return y

    def path(self, device: torch.device, dtype: torch.dtype | None = None, rate: float | None = None) -> str:
        """Which backend a call takes there: "flex" or "blocks"; of the weights' type, in training, unless said."""
        dtype, rate = dtype or self.out.weight.dtype, self.dropout if rate is None else rate
        ready = self.backend == "auto" and flex_ready(device, self.head_dim, dtype, rate)
        return "flex" if ready or self.backend == "flex" else "blocks"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        made = self.parts_on(q.shape[2], q.device)
        if self.path(q.device, q.dtype, self.dropout_now) == "flex":
            return flex_attend(q, k, v, mask, self.rule(q.shape[2]), made.parts)
        if made.first is not None:
            return attend_all(q, k, v, mask, made.first, self.drops(q))
        return attend(q, k, v, mask, made.parts, self.drops(q))
