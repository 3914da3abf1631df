"""Transformer-XL attention (Dai et al. 2019, arXiv 1901.02860): segment recurrence, relative positions.

Section 3.2: layer n reads, for a segment of its input, that segment and the states before it,
whose gradient is stopped. Section 3.3: the score of query i and key j is

    [(q_i + u) . k_j + (q_i + w) . W_kR R_(i-j)] / sqrt(E)

with R the sinusoids of the signed distance, u and w (the paper's v) learned, the same in all layers.

Layer n of a segment needs layer n-1 of earlier segments and never layer n. So a layer can be
computed for all segments before the next layer starts, and the cache of segment states is a slice
of the layer's own input. States and gradients are those of the loop over segments, then layers,
which stands in the tests.

Time O(L (segment + memory) D). Memory O(L D): scores are made for `ROWS` queries at a time, in
blocks that stay in the processor's cache, and made again in the backward pass.

Departures. From the paper: bidirectional, so a query sees all of its segment, not only what is
before it, and distances take both signs; pre-norm layers (`ResidualStack`), so the cached state is
the normed one that attention reads. The official suite has no Transformer-XL (spec 0.10).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lra.models.parts.chance import drawn, keep, keep_both, scale
from lra.models.parts.heads import MultiHead, all_real
from lra.models.parts.tiles import wide

ROWS = 128  # queries to a block of scores
# Scores held at once: on CPU what a core's cache takes, elsewhere what keeps the device busy.
ELEMENTS = {"cpu": 2**20}
ELEMENTS_ELSEWHERE = 2**26


class RelativeAttention(MultiHead):
    """One layer's attention over a segment and the memory before it: (B, L, D), (B, L) -> (B, L, D).

    segment: positions that see each other. memory: positions before a segment that it sees; 0 for
    none, more than `segment` for several segments' states. `dropout` acts on attention weights.

    Raises ValueError if segment < 1 or memory < 0.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        segment: int = 512,
        memory: int = 512,
        shared: dict | None = None,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, dropout)
        if segment < 1:
            raise ValueError(f"model.mixer.segment: {segment} is not a positive number of positions")
        if memory < 0:
            raise ValueError(f"model.mixer.memory: {memory} is below 0")
        self.segment, self.memory = segment, memory
        self.position = nn.Linear(dim, heads * self.head_dim, bias=False)
        nn.init.xavier_uniform_(self.position.weight)
        biases = {} if shared is None else shared
        for name in ("content_bias", "position_bias"):
            if name not in biases:
                biases[name] = nn.Parameter(torch.randn(heads, 1, self.head_dim) * 0.02)
            self.register_parameter(name, biases[name])

    def state_floats(self, length: int) -> int:
        """Keys and values of a segment and its memory."""
        return super().state_floats(min(length, self.segment + self.memory))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        length = x.shape[1]
        segment = min(self.segment, length)
        memory = min(self.memory, (length - 1) // segment * segment)
        hidden = None if all_real(mask) else ~mask
        if hidden is not None:
            # A weight of zero does not stop a NaN in the padding.
            x = x.masked_fill(hidden[..., None], 0)
        q = self.split(self.query(x))
        k, k_cached = (self.split(t) for t in StopAtMemory.apply(x, self.key.weight))
        v, v_cached = (self.split(t) for t in StopAtMemory.apply(x, self.value.weight))
        distances = torch.arange(memory + segment - 1, -segment, -1, device=x.device)
        r = self.split(self.position(signed_sinusoids(distances, x.shape[2], wide(x.dtype)).to(x.dtype))[None])[0]
        u, w = self.content_bias.to(q.dtype), self.position_bias.to(q.dtype)
        options = hidden, segment, memory, self.drops(q)
        return self.out(self.join(SegmentAttention.apply(q, u, w, k, v, k_cached, v_cached, r, *options)))


def signed_sinusoids(distances: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """R: (T,) signed distances -> (T, D), sines then cosines (Vaswani et al. 2017, 3.5)."""
    even = torch.arange(0, dim, 2, device=distances.device, dtype=dtype)
    angle = distances.to(torch.float32)[:, None] * 10_000.0 ** (-even / dim)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)[:, :dim]


class StopAtMemory(torch.autograd.Function):
    """x (B, L, D), weight (H x E, D) -> x weight^T twice: as its own segment sees it, and as cached.

    The gradient of the second goes to the weight and not to x, as if it were the projection of a
    detached copy, which need not be computed.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        y = F.linear(x, weight)
        ctx.save_for_backward(x, weight)
        return y, y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx, own: Tensor, cached: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        both = (own + cached).flatten(0, 1)
        return own @ weight.to(own.dtype), both.T @ x.flatten(0, 1).to(own.dtype)


class Block(NamedTuple):
    """Queries that are worked on at once: a slice of the B examples; slices of the L positions for
    the queries, the memory and the segment they see; and of the T distances that occur."""

    examples: slice
    queries: slice
    memory: slice
    segment: slice
    distances: slice

    def take(self, x: Tensor, positions: slice) -> Tensor:
        """(B, H, L, E) -> (N, positions, E), N = examples x H; a view where there is one example."""
        return x[self.examples, :, positions].flatten(0, 1)

    def put(self, x: Tensor, positions: slice, y: Tensor) -> None:
        """Store what `take` would read."""
        target = x[self.examples, :, positions]
        target.copy_(y.unflatten(0, target.shape[:2]))

    def add(self, x: Tensor, positions: slice, y: Tensor) -> None:
        """Add to what `take` would read."""
        target = x[self.examples, :, positions]
        target.add_(y.unflatten(0, target.shape[:2]))

    @property
    def keys(self) -> slice:
        return slice(self.memory.start, self.segment.stop)


def segments(q: Tensor, hidden: Tensor | None, segment: int, memory: int) -> Iterator[Block]:
    """All blocks but those of padding only; q (B, H, L, E), hidden (B, L) True on padding."""
    batch, heads, length, _ = q.shape
    rows = min(ROWS, segment)
    together = max(1, ELEMENTS.get(q.device.type, ELEMENTS_ELSEWHERE) // (heads * rows * (memory + segment + rows)))
    empty = None
    if hidden is not None:
        empty = torch.stack([part.all(1) for part in hidden.split(segment, 1)]).tolist()
    for first in range(0, batch, together):
        examples = slice(first, min(first + together, batch))
        for index, start in enumerate(range(0, length, segment)):
            if empty is not None and all(empty[index][examples]):
                continue
            oldest, stop = max(start - memory, 0), min(start + segment, length)
            for row in range(start, stop, rows):
                end = min(row + rows, stop)
                # Distances fall from memory + segment - 1; the first needed: last query, oldest key.
                skip = memory + segment - 1 - (end - 1 - oldest)
                distances = slice(skip, skip + (stop - oldest) + (end - row) - 1)
                yield Block(examples, slice(row, end), slice(oldest, start), slice(start, stop), distances)


def by_key(by_distance: Tensor) -> Tensor:
    """The relative shift (appendix B) as a view: (N, n, K + n - 1) -> (N, n, K).

    Query i of n finds key 0 at column n - 1 - i, as every row starts at the distance that is
    farthest for the last query.
    """
    count, n, width = by_distance.shape
    return by_distance.as_strided((count, n, width - n + 1), (n * width, width - 1, 1), n - 1)


class Work:
    """What both passes need of a block, and the buffers they use for every block: fresh ones
    would cost more in page faults than the arithmetic in them."""

    def __init__(self, q, u, w, k, v, r, hidden, segment, memory, drops) -> None:
        self.q, self.u, self.w, self.k, self.v, self.r, self.hidden = q, u, w, k, v, r, hidden
        self.segment, self.memory, self.drops = segment, memory, drops
        self.scale = q.shape[3] ** -0.5
        self.buffers: dict[str, Tensor] = {}

    def segments(self) -> Iterator[Block]:
        return segments(self.q, self.hidden, self.segment, self.memory)

    def buffer(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Zeros when it is made or changes its shape, else what was left there."""
        if name not in self.buffers or self.buffers[name].shape != shape:
            self.buffers[name] = self.q.new_zeros(shape, dtype=dtype or self.q.dtype)
        return self.buffers[name]

    def queries(self, block: Block) -> tuple[Tensor, Tensor]:
        """q + u and q + w, scaled: (N, n, E)."""
        q = self.q[block.examples, :, block.queries]
        return tuple(((q + bias) * self.scale).flatten(0, 1) for bias in (self.u, self.w))

    def distances(self, block: Block, count: int) -> Tensor:
        """(count, K + n - 1, E), count a multiple of H."""
        r = self.r[:, block.distances]
        return r.expand(count // len(r), *r.shape).flatten(0, 1)

    def scores(self, block: Block, qu: Tensor, qw: Tensor, keys: Tensor) -> Tensor:
        """(N, n, K), at least float32, to be overwritten."""
        r = self.distances(block, len(keys))
        by_distance = self.buffer("scores", len(keys), qu.shape[1], r.shape[1])
        scores = by_key(torch.bmm(qw, r.mT, out=by_distance)).baddbmm_(qu, keys.mT)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.hidden is not None:
            hidden = self.hidden[block.examples, None, block.keys]
            scores.masked_fill_(hidden.repeat_interleave(len(keys) // len(hidden), 0), torch.finfo(scores.dtype).min)
        return scores

    def drawn(self, block: Block, weights: Tensor) -> Tensor:
        """The numbers that tell which weights (N, n, K) are kept, the same in both passes."""
        rows = self.drops.rows[block.examples, :, block.queries].flatten(0, 1).unsqueeze(-1)
        columns = self.drops.columns[block.examples, :, block.keys].flatten(0, 1).unsqueeze(-2)
        return drawn(rows, columns, self.buffer("drawn", *weights.shape, dtype=weights.dtype))


class SegmentAttention(torch.autograd.Function):
    """softmax([(q + u) k + shifted (q + w) r] / sqrt(E)) v over each segment and its memory.

    q, k, v, and k, v once more for their gradient as memory (B, H, L, E); u, w (H, 1, E); r (H, T, E)
    by falling distance; hidden (B, L), True on padding, or None. Result (B, H, L, E).
    """

    @staticmethod
    def forward(ctx, q, u, w, k, v, k_cached, v_cached, r, *options):
        work = Work(q, u, w, k, v, r, *options)
        out, log_sums = projected_like(q), projected_like(q[..., :1])
        for block in work.segments():
            keys, values = block.take(k, block.keys), block.take(v, block.keys)
            weights = work.scores(block, *work.queries(block), keys)
            peak = weights.amax(-1, keepdim=True)
            total = weights.sub_(peak).exp_().sum(-1, keepdim=True)
            block.put(log_sums, block.queries, peak + total.log())
            if work.drops:
                keep(weights, work.drawn(block, weights), work.drops.rate, weights)
                total /= scale(work.drops.rate)
            block.put(out, block.queries, torch.bmm(weights.to(v.dtype), values) / total)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, u, w, k, v, r, out, log_sums)
        ctx.options = options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *inputs, out, log_sums = ctx.saved_tensors
        q, u, w, k, v, r = inputs
        work = Work(*inputs, *ctx.options)
        dq, dk, dv, dk_cached, dv_cached = (projected_like(q) for _ in range(5))
        du, dw, dr = (torch.zeros_like(t, dtype=dq.dtype) for t in (u, w, r))
        for block in work.segments():
            qu, qw = work.queries(block)
            keys, values = block.take(k, block.keys), block.take(v, block.keys)
            g = block.take(grad, block.queries)
            weights = work.scores(block, qu, qw, keys).sub_(block.take(log_sums, block.queries)).exp_()
            # The softmax takes off sum_j weights_j dweights_j, which is g . out whatever was dropped.
            mean = (g * block.take(out, block.queries)).sum(-1, keepdim=True)
            if work.drops:
                g = g * scale(work.drops.rate)
            dweights = torch.bmm(g, values.mT, out=work.buffer("dweights", *weights.shape))
            dropped = weights
            if work.drops:
                dropped = keep_both(weights, dweights, work.drawn(block, weights), work.drops.rate)
            first = block.queries.start == block.segment.start
            dvalues = work.buffer("dvalues", *values.shape)
            torch.baddbmm(dvalues, dropped.to(g.dtype).mT, g, beta=not first, out=dvalues)
            # Only what `by_key` sees of it is ever written: the corners stay zero.
            by_distance = work.buffer("dscores", len(keys), g.shape[1], keys.shape[1] + g.shape[1] - 1)
            dscores = torch.mul(weights, dweights.sub_(mean), out=by_key(by_distance))
            dkeys = work.buffer("dkeys", *keys.shape)
            torch.baddbmm(dkeys, dscores.mT, qu, beta=not first, out=dkeys)
            by_content = torch.bmm(dscores, keys)
            by_position = torch.bmm(by_distance, work.distances(block, len(keys)))
            block.put(dq, block.queries, by_content + by_position)
            du += by_content.unflatten(0, (-1, len(r))).sum((0, 2), keepdim=True)[0]
            dw += by_position.unflatten(0, (-1, len(r))).sum((0, 2), keepdim=True)[0]
            accumulate(dr[:, block.distances], by_distance.mT, qw)
            old = block.memory.stop - block.memory.start
            if block.queries.stop < block.segment.stop:
                continue
            for cached, own, gradient in ((dk_cached, dk, dkeys), (dv_cached, dv, dvalues)):
                block.add(cached, block.memory, gradient[:, :old])
                block.add(own, block.segment, gradient[:, old:])
        gradients = (dq.mul_(work.scale), du.mul_(work.scale), dw.mul_(work.scale), dk, dv, dk_cached, dv_cached, dr)
        return *(t.to(q.dtype) for t in gradients), None, None, None, None


def accumulate(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b (N, T, E), summed over the examples, to total (H, T, E)."""
    if len(a) == len(total) and a.dtype == total.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b).unflatten(0, (-1, len(total))).sum(0)


def projected_like(x: Tensor) -> Tensor:
    """Zeros like x (B, H, L, E), at least float32, laid out so that `join` costs nothing."""
    batch, heads, length, width = x.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.zeros(batch, length, heads, width, dtype=dtype, device=x.device).transpose(1, 2)
