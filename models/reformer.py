"""Reformer (Kitaev, Kaiser & Levskaya 2020, arXiv 2001.04451): LSH attention and reversible layers.

Queries are keys, k_j = q_j / |q_j|. Each round hashes them by random rotations, sorts them by bucket
and position, and cuts the sorted row into chunks of m; a chunk attends to itself and to the one
before it (section 2, "LSH attention"; no wrap-around, as in the set P~_i printed there):

    P_i = union over rounds r of { j : chunk_r(i) - 1 <= chunk_r(j) <= chunk_r(i) }
    out_i = sum over j in P_i of exp(q_i k_j / sqrt(E) - z_i) v_j,   z_i the log of the normaliser

without j = i, unless i has nobody else. A pair that meets in several rounds counts once (the
1 / N_ij of appendix A), so that more rounds approach full attention without self.

    h(x) = argmax [x R; -x R]

with about 2 n / m buckets for n tokens. They come from two such hashes with the root of that number
each, as the authors' code factorises its hash: one rotation into so many buckets would make the
hashing quadratic. R is a buffer drawn from the seed, `redraw` draws it anew.

Padding is sorted last and never attended to; the number of buckets follows from the real tokens of
each example. So padding moves neither buckets nor chunk boundaries. (What lies within rounding of
the border of two buckets can change its bucket with the rounding.)

Time O(rounds L (m E + log L)) a head, and O(rounds L E sqrt(L / m)) with a small factor to hash.
Memory O(L E) as for fused attention, and O(rounds L) for the order: chunks exist for one block at a
time and are computed again in the backward pass. `ReversibleStack`: O(L D) whatever the depth.

Departures from the paper: a token sees all of its two chunks, where eqs. 3 and 16 hide what is not in
its own bucket; with several chunks, a logit more than 140 below that of the token with itself counts
as 140 below; no dropout on attention weights (the paper has none); the streams of the stack, see there.
Between the paper and its authors' code (Trax): it sees whole chunks too. The products are there, about
half of them of other buckets (eq. 5: m is twice a bucket), and whoever has no key in his bucket would
see himself alone. Scale: eq. 2 omits its 1 / sqrt(d_k) "for clarity" only, and section 2 has keys of
length 1, hence q_i k_j / sqrt(E) as above; Trax gives keys the length sqrt(E) before it divides, and
so has logits sqrt(E) times these. Sums: Trax adds rounds up without 1 / N_ij, so that a pair counts as
often as it meets, and its first chunk sees the last. In both the paper is followed.
From the official LRA code (spec 4.4): there keys keep their length, a token sees itself, logits are
multiplied by sqrt(E), one round, ten chunks whatever L, no padding mask, no output projection, heads
and positions mixed up by a reshape, no reversible layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.heads import MultiHead, all_real, rotate
from lra.models.parts.layers import Mask, mixed, packing, row, whole
from lra.models.parts.redrawn import Redrawn
from lra.models.parts.tiles import blocks, heads_first, no_autocast, tiles, wide
from lra.models.stack import FeedForward

CEILING = 60.0  # exponent of a key that lies where the query does: sums of 1e9 of them fit float32
FLOOR = -80.0  # exponents are cut off below, because exp is slow on what underflows
NORM_EPS = 1e-6


def directions(count: int, chunk: int) -> int:
    """c such that two hashes of 2c buckets each make up at least 2 count / chunk buckets."""
    c = 1
    while 2 * c * c * chunk < count:
        c += 1
    return c


class Places(NamedTuple):
    """Where every token stands in every round: what chunks are made of.

    A token's row is its index in the table (B L H, E). A sorted row holds the L tokens of one head
    of one example in S chunks of m places; the T = B H S chunks of a round follow each other.

    order   (R, m + T m) int64: the row at each place; the first m places are nobody's
    chunk   (R, B L H) int16 or int32: number of the chunk of each row within its sorted row
    real    (1 + T, m) bool, True at places of real tokens; None if that is all but the first m
    """

    order: Tensor
    chunk: Tensor
    real: Tensor | None
    size: int  # m
    per_row: int  # S


def sort_into_chunks(buckets: Tensor, mask: Tensor | None, size: int) -> Places:
    """By bucket, then position. buckets (R, B, H, L) int64, mask (B, L) or None, size m."""
    rounds, batch, heads, length = buckets.shape
    device, per_row = buckets.device, -(-length // size)
    padding = 4 * directions(length, size) ** 2  # above any bucket: sorted last
    if mask is not None:
        buckets = buckets.masked_fill(~mask[:, None, :], padding)
    # One stable sort of one dimension: for such torch has a radix sort.
    rows = torch.arange(rounds * batch * heads, device=device)[:, None]
    key = (buckets.flatten(0, 2) + rows * (padding + 1)).flatten()
    narrow = torch.int32 if len(rows) * (padding + 1) < 2**31 else torch.int64
    position = torch.sort(key.to(narrow), stable=True).indices.view(buckets.shape) % length
    example, head = torch.arange(batch, device=device)[:, None, None], torch.arange(heads, device=device)[:, None]
    row = (example * length + position) * heads + head
    narrow = torch.int16 if per_row < 2**13 else torch.int32
    number = (torch.arange(length, device=device) // size).to(narrow).expand_as(row).flatten(1)
    chunk = torch.empty_like(number).scatter_(1, row.flatten(1), number)
    spare = per_row * size - length
    order = F.pad(F.pad(row, (0, spare)).flatten(1), (size, 0))
    real = None
    if mask is not None or spare:
        count = row.new_full((batch,), length) if mask is None else mask.sum(1)
        real = torch.arange(per_row * size, device=device) < count[:, None, None]
        real = F.pad(real.expand(batch, heads, -1).reshape(-1, size), (0, 0, 1, 0))
    return Places(order, chunk, real, size, per_row)


class _Block:
    """The chunks `at` of one round with the chunk before each: gathered rows and unnormalised weights."""

    def __init__(self, places: Places, turn: int, at: slice, q: Tensor, v: Tensor, key_scale: Tensor) -> None:
        """q, v (B L H, E), key_scale (B L H)."""
        size, count = places.size, at.stop - at.start
        self.places, self.turn, self.at, self.count = places, turn, at, count
        self.rows = places.order[turn, at.start * size : (at.stop + 1) * size]
        self.queries = self.rows[size:]
        dtype = key_scale.dtype
        self.q, self.v = q.index_select(0, self.rows).to(dtype), v.index_select(0, self.rows).to(dtype)
        self.scale = key_scale.index_select(0, self.rows)[:, None]
        self.k = self.q * self.scale
        self.q_chunks = self.q[size:].view(count, size, -1)

    def windows(self, x: Tensor) -> Tensor:
        """x ((G + 1) m, ...) -> each chunk behind the one before it, (G, 2m, ...), without a copy."""
        size, rest = self.places.size, x.shape[1:]
        return x.as_strided((self.count, 2 * size, *rest), (size * x.stride(0), *x.stride()))

    def weights(self, peak: Tensor, floor: float, ceiling: float) -> Tensor:
        """exp(q_i k_j - peak_i) (G, m, 2m), 0 where j is not seen, or was seen in an earlier round."""
        size = self.places.size
        w = torch.bmm(self.q_chunks, self.windows(self.k).mT)
        w.sub_(peak.index_select(0, self.queries).view(self.count, size, 1)).clamp_(floor, ceiling).exp_()
        w.diagonal(size, 1, 2).zero_()
        w[-self.at.start % self.places.per_row :: self.places.per_row, :, :size].zero_()
        if self.places.real is not None:
            real = self.places.real[self.at.start : self.at.stop + 1].flatten().to(w.dtype)
            w.mul_(self.windows(real)[:, None, :])
        nearest = None
        for earlier in range(self.turn):
            # Both in one window then: 2 (chunk of i) - 1 - 2 (chunk of j) is 1 or -1. Chosen for
            # operations that are vectorised on small integers; comparisons are not.
            twice = self.places.chunk[earlier].index_select(0, self.rows).mul_(2)
            gap = (twice[size:].view(self.count, size, 1) - 1 - self.windows(twice)[:, None, :]).abs_()
            nearest = gap if nearest is None else torch.minimum(nearest, gap, out=nearest)
        return w if nearest is None else w.mul_(nearest.clamp_(max=3).bitwise_right_shift_(1))

    def hide_padding(self, x: Tensor) -> Tensor:
        """Zero what belongs to queries (G m, ...) that are no tokens."""
        if self.places.real is None:
            return x
        real = self.places.real[self.at.start + 1 : self.at.stop + 1].flatten()
        return x.mul_(real.view(-1, *[1] * (x.dim() - 1)))


class _ChunkAttention(torch.autograd.Function):
    """out_i of the module's docstring and its gradients, a block of chunks at a time.

    Logits are at most |q_i| / sqrt(E), so no maximum has to be searched for, and rounds simply add
    up: numerators and denominators, the latter without overflow between e^FLOOR and e^CEILING.
    """

    @staticmethod
    def forward(ctx, qk: Tensor, v: Tensor, places: Places) -> Tensor:
        """qk, v (B, L, H, E) -> (B, L, H, E); places without a real token get what stands in v."""
        width, dtype = qk.shape[-1], wide(qk.dtype)
        q2, v2 = qk.reshape(-1, width), v.reshape(-1, width)
        with no_autocast(qk):
            norm = torch.linalg.vector_norm(q2, dim=1, dtype=dtype)
            peak = norm * width**-0.5 - CEILING
            key_scale = (norm.square() + NORM_EPS).rsqrt_().mul_(width**-0.5)
            out, total = torch.zeros_like(q2, dtype=dtype), torch.zeros_like(norm)
            for block in _all_blocks(places, q2, v2, key_scale):
                w = block.weights(peak, FLOOR, CEILING)
                o = torch.bmm(w, block.windows(block.v)).flatten(0, 1)
                total.index_add_(0, block.queries, block.hide_padding(w.sum(-1).flatten()))
                out.index_add_(0, block.queries, block.hide_padding(o))
            alone = (total == 0).to(dtype)
            total += alone
            out.div_(total[:, None]).addcmul_(v2.to(dtype), alone[:, None])
        out = out.to(qk.dtype)
        ctx.sizes = places.size, places.per_row
        peak += total.log()
        ctx.save_for_backward(q2, v2, out, peak, key_scale, alone, places.order, places.chunk, places.real)
        return out.view(qk.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        q2, v2, out, normaliser, key_scale, alone, *places = ctx.saved_tensors
        places, width, dtype = Places(*places, *ctx.sizes), q2.shape[1], key_scale.dtype
        size, shape, grad = places.size, grad.shape, grad.reshape(-1, width)
        with no_autocast(grad):
            dqk, dv = torch.zeros_like(q2, dtype=dtype), torch.zeros_like(v2, dtype=dtype)
            mean = torch.empty_like(normaliser)
            for at in blocks(len(q2), width, q2.device):
                mean[at] = (grad[at] * out[at]).to(dtype).sum(1)
            for block in _all_blocks(places, q2, v2, key_scale):
                w = block.weights(normaliser, FLOOR / 2, 0.0)
                g = block.hide_padding(grad.index_select(0, block.queries).to(dtype))
                m = block.hide_padding(mean.index_select(0, block.queries))
                g = g.view(block.count, size, width)
                dw = torch.bmm(g, block.windows(block.v).mT).sub_(m.view(block.count, size, 1)).mul_(w)
                dk = _fold(dw, block.q_chunks)
                # Through k = q / |q|, and to q itself.
                q, unit = block.q, width * block.scale.square()
                dq = dk.sub_(q * ((q * dk).sum(1, keepdim=True) * unit)).mul_(block.scale)
                dq[size:] += torch.bmm(dw, block.windows(block.k)).flatten(0, 1)
                dqk.index_add_(0, block.rows, dq)
                dv.index_add_(0, block.rows, _fold(w, g))
            dv.addcmul_(grad.to(dtype), alone[:, None])
        return dqk.to(q2.dtype).view(shape), dv.to(v2.dtype).view(shape), None


def _all_blocks(places: Places, q: Tensor, v: Tensor, key_scale: Tensor) -> Iterator[_Block]:
    chunks = places.order.shape[1] // places.size - 1
    for turn in range(len(places.order)):
        for at in blocks(chunks, 2 * places.size**2, q.device):
            yield _Block(places, turn, at, q, v, key_scale)


def _fold(w: Tensor, x: Tensor) -> Tensor:
    """w (G, m, 2m), x (G, m, E): w^T x, each half added where its keys stand, ((G + 1) m, E)."""
    count, size, width = x.shape
    out = x.new_zeros(count + 1, size, width)
    torch.bmm(w[:, :, size:].mT, x, out=out[1:])
    out[:-1].baddbmm_(w[:, :, :size].mT, x)
    return out.flatten(0, 1)


def attend_others(qk: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """out_i of the module's docstring where everything stands in one chunk: all sees all but itself, whatever the
    hashes are. qk, v (B, L, H, E), mask (B, L) or None -> (B, L, H, E)."""
    dtype = wide(qk.dtype)
    q = qk.transpose(1, 2)
    key_scale = (torch.linalg.vector_norm(q, dim=-1, keepdim=True, dtype=dtype).square() + NORM_EPS).rsqrt()
    itself = torch.eye(q.shape[2], dtype=torch.bool, device=q.device)
    seen = (~itself)[None, None]
    if mask is not None:
        seen = seen & mask[:, None, None]
    alone = q.new_tensor(q.shape[2]) if mask is None else mask.sum(1)[:, None, None, None]
    seen = seen | (itself & (alone < 2))
    return F.scaled_dot_product_attention(q, q * key_scale.to(q.dtype), v.transpose(1, 2), seen).transpose(1, 2)


class LSHAttention(MultiHead, Redrawn):
    """Attention among tokens that are hashed alike; see the module.

    chunk   m, the tokens of a chunk
    rounds  rounds of hashing
    redraw  "never", or the number of training steps after which the rotations are drawn anew

    Longer inputs than `max_len` are possible, with the buckets of `max_len`. Raises ValueError for
    options out of range.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        chunk: int = 64,
        rounds: int = 2,
        redraw: str | int = "never",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, rotary=rotary)
        for field, value in (("chunk", chunk), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        del self.key  # the query's
        self.chunk, self.rounds = chunk, rounds
        self.start_drawing(redraw)

    def relations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The queries are the keys."""
        q, v = self.query(x), self.value(x)
        return q, q, v

    def draw(self, generator: torch.Generator | None) -> None:
        shape = (self.heads, self.head_dim, self.rounds, 2, directions(self.max_len, self.chunk))
        device = None if generator is None else "cpu"
        self.set_drawn("rotations", torch.randn(shape, generator=generator, device=device))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = None if all_real(mask) else mask
        if hidden is not None:
            x = x.masked_fill(~mask[..., None], 0)
        qk, v = (self.split(project(x)) for project in (self.query, self.value))
        if self.rotary:
            qk = rotate(qk)
        qk, v = qk.transpose(1, 2), v.transpose(1, 2)
        if x.shape[1] <= self.chunk:
            return self.out(attend_others(qk, v, hidden).flatten(2))
        places = sort_into_chunks(self.hash(qk.detach(), hidden), hidden, self.chunk)
        return self.out(_ChunkAttention.apply(qk, v, places).flatten(2))

    @torch.no_grad()
    def hash(self, q: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, L, H, E), mask (B, L) or None -> buckets (R, B, H, L) int64, any number at padding."""
        batch, length, heads, width = q.shape
        c = min(directions(length, self.chunk), self.rotations.shape[-1])
        dtype = wide(q.dtype)
        rotations = self.rotations[..., :c].to(dtype).reshape(heads, width, -1)
        buckets = torch.empty(self.rounds, batch, heads, length, dtype=torch.int64, device=q.device)
        spare = None
        if mask is not None:
            # The directions that an example has by its real tokens alone.
            steps = 2 * self.chunk * torch.arange(1, c, device=q.device) ** 2
            own = torch.searchsorted(steps, mask.sum(1)) + 1
            spare = torch.arange(c, device=q.device) >= own[:, None]
        with no_autocast(q):
            for some, cuts in tiles(batch, length, heads * rotations.shape[-1], q.device):
                for at in cuts:
                    y = heads_first(q, some, at, dtype).unflatten(0, (-1, heads)) @ rotations
                    y = y.unflatten(-1, (self.rounds, 2, c))  # (b, H, n, R, 2, c)
                    size = y.abs() if spare is None else y.abs().masked_fill_(spare[some, None, None, None, None], -1)
                    best = size.argmax(-1, keepdim=True)
                    digit = (best + c * (y.gather(-1, best) < 0)).squeeze(-1)
                    buckets[:, some, :, at] = (digit[..., 0] * (2 * c) + digit[..., 1]).permute(3, 0, 1, 2)
        return buckets


def snap(f: Tensor) -> Tensor:
    """f in float64, rounded to multiples of 2^-30.

    Sums of such numbers are exact below 2^22, so that adding a layer's output and taking it away
    again gives back every bit, and a layer that is computed again sees its very input. With
    rounding errors instead, a token on the border of two buckets would be hashed to the other one.
    """
    return f.detach().to(torch.float64, copy=True).mul_(2.0**30).round_().mul_(2.0**-30)


class ReversibleLayer(nn.Module):
    """y1 = x1 + Dropout(Mixer(LN(x2))), y2 = x2 + FeedForward(LN(y1)): section 3 of the paper."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mixer, self.mlp = mixer, FeedForward(dim, mlp_dim, dropout)
        self.dropout = Dropout(dropout)

    def mix(self, x: Tensor, mask: Mask) -> Tensor:
        return self.dropout(mixed(self.mixer, self.mixer_norm(x), mask))

    def feed(self, x: Tensor, first: int) -> Tensor:
        """Of a part of the length that starts at position `first`."""
        return self.mlp(self.mlp_norm(x), first)


class _Setting:
    """What a part of a layer must find again when it is computed a second time: the random numbers
    of who is told of no step and of modules of other hands, from a seed, and autocast."""

    def __init__(self, x: Tensor) -> None:
        self.device = x.device
        self.seed = int(torch.randint(2**62, (), device="cpu"))
        self.autocast: dict | None = None
        if x.device.type != "meta":
            kind = x.device.type
            enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
            # Without its cache: casts made while no graph is recorded would be found there later.
            self.autocast = {"device_type": kind, "dtype": dtype, "enabled": enabled, "cache_enabled": False}

    @contextmanager
    def part(self, index: int) -> Iterator[None]:
        on_gpu = self.device.type == "cuda"
        with torch.random.fork_rng([self.device] if on_gpu else []):
            torch.default_generator.manual_seed(self.seed + index)
            if on_gpu:
                torch.cuda.manual_seed(self.seed + index)
            with torch.autocast(**self.autocast) if self.autocast else nullcontext():
                yield


class _Recomputed(torch.autograd.Function):
    """`ReversibleStack.run` that keeps the last two streams only."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, stack: ReversibleStack, setting: _Setting, *parameters: Tensor):
        x1 = x2 = snap(x)
        for index, layer in enumerate(stack.layers):
            with setting.part(2 * index):
                x1 = x1 + snap(layer.mix(x2.to(x.dtype), mask))
            with setting.part(2 * index + 1):
                x2 = x2.clone()
                for first, part, into in zip(stack.starts(x1), stack.cut(x1), stack.cut(x2), strict=True):
                    into += snap(layer.feed(part.to(x.dtype), first))
        ctx.stack, ctx.setting, ctx.parameters, ctx.dtype = stack, setting, parameters, x.dtype
        ctx.save_for_backward(x1, x2, mask)
        return ((x1 + x2) / 2).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        y1, y2, mask = ctx.saved_tensors
        stack, setting, dtype = ctx.stack, ctx.setting, ctx.dtype
        found: dict[Tensor, Tensor] = {}

        def back(function: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor, d: Tensor) -> tuple:
            """function(x), and d carried back through it to x; parameters go to `found`."""
            leaf = x.to(dtype, copy=True).requires_grad_()
            own = [p for p in module.parameters() if p.requires_grad]
            with torch.enable_grad():
                y = function(leaf)
            dx, *rest = torch.autograd.grad(y, (leaf, *own), d.to(y.dtype), allow_unused=True)
            for parameter, g in zip(own, rest, strict=True):
                if g is not None:
                    found[parameter] = found[parameter] + g if parameter in found else g
            return snap(y), 0 if dx is None else dx

        d1, d2 = grad / 2, grad / 2
        for index, layer in reversed(list(enumerate(stack.layers))):
            with setting.part(2 * index + 1):
                y2, d1 = y2.clone(), d1.clone()
                for first, x, y, dx, dy in zip(stack.starts(y1), *map(stack.cut, (y1, y2, d1, d2)), strict=True):
                    out, step = back(partial(layer.feed, first=first), layer, x, dy)
                    y -= out
                    dx += step
            with setting.part(2 * index):
                out, step = back(lambda x, layer=layer: layer.mix(x, mask), layer, y2, d1)
                y1, d2 = y1 - out, d2 + step
        return d1 + d2, None, None, None, *(found.get(p) for p in ctx.parameters)


class ReversibleStack(nn.Module):
    """`depth` reversible layers and a last LayerNorm: (B, L, D), (B, L) -> (B, L, D).

    Both streams start as x and their mean is the output (the paper leaves this open). They are kept
    in float64 on a grid (`snap`), whatever the dtype of x, in which the layers themselves run.
    Training keeps 16 L D bytes an example for the whole stack and computes each layer again in the
    backward pass. `feed_forward_chunks` cuts the length for the feed-forward layers, whose inside
    then exists for one part at a time (section 3, "chunking").

    Raises ValueError for `feed_forward_chunks` below 1.
    """

    packs = False

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        dropout: float = 0.0,
        feed_forward_chunks: int = 1,
    ) -> None:
        super().__init__()
        if feed_forward_chunks < 1:
            raise ValueError(f"model.stack.feed_forward_chunks: {feed_forward_chunks} is not above 0")
        shared: dict = {}
        self.layers = nn.ModuleList(
            ReversibleLayer(mixer(layer=i, shared=shared), dim, mlp_dim, dropout) for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.chunks = feed_forward_chunks

    def cut(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, L, D) -> views of at most `feed_forward_chunks` parts of the length."""
        return x.chunk(self.chunks, dim=1)

    def starts(self, x: Tensor) -> list[int]:
        """At which position each part of `cut` starts."""
        return list(accumulate((part.shape[1] for part in self.cut(x)[:-1]), initial=0))

    def run(self, x: Tensor, mask: Mask, setting: _Setting) -> Tensor:
        """The same map with everything kept: what the backward pass must agree with."""

        def through(f: Tensor) -> Tensor:
            return f.double() + (snap(f) - f.detach().double())

        x1 = x2 = through(x)
        for index, layer in enumerate(self.layers):
            with setting.part(2 * index):
                x1 = x1 + through(layer.mix(x2.to(x.dtype), mask))
            with setting.part(2 * index + 1):
                parts = zip(self.starts(x1), self.cut(x1), strict=True)
                x2 = x2 + torch.cat([through(layer.feed(part.to(x.dtype), first)) for first, part in parts], dim=1)
        return ((x1 + x2) / 2).to(x.dtype)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        setting = _Setting(x)
        if not torch.is_grad_enabled():
            at = packing(mask, self.packs and not self.training)
            return whole(self.norm(self.run(row(x, at), at, setting)), at)[0]
        parameters = [p for p in self.layers.parameters() if p.requires_grad]
        return self.norm(_Recomputed.apply(x, mask, self, setting, *parameters))
