"""Sparse Sinkhorn attention (Tay et al. 2020, arXiv 2002.11296).

The sequence is cut into S blocks of W positions. From the sum of its tokens (the paper's psi_P) a
sort network scores, for every block i, the blocks j that might take its place (section 3.1.1):

    R_i = relu(W_B relu(W_P sum of block i + b_P) + b_B)        one R (S, S) a head

`sinkhorn` turns (R + Gumbel noise) / temperature into a doubly stochastic matrix P, a soft
permutation (3.1.2). Each query sees its own block and the block sorted into its place, sum_j P_ij
K_j, under one softmax (3.2).

Time O(L W D) for attention, O(L S D) for sorting keys and values, O(iterations S^2 H) for P: the
sort is quadratic with a constant of 1 / W, which is small next to the projections while L / W is
below a few times D. For much longer input make `block` larger; the sum is least near W = sqrt(L/2).
Memory O(L D + S^2 H), whatever the number of iterations.

Padding. Blocks are described by their real tokens only; blocks of padding only take no part in the
sort. A padded token adds nothing to a sorted block, and a position there counts in the softmax by
the share of P that comes from real tokens (a constant in the backward pass, as masks are).

Departures. From the paper: no SortCut, encoder form only, no noise in `eval()`. Section 3.2 adds the
two scores of a place, with the key sorted there and with its own, so that both share one weight; here
each has its own, under one softmax over 2W keys, at the same number of products: what is sorted far
away need not fit what happens to stand in its place. Scores are divided by sqrt(E), which 3.2 leaves
out and the official code has.
From the official code, where the sort has no effect and gets no gradient, blocks are strided and the
softmax over logits stands for the Sinkhorn iterations (spec 4.4): all of it. It has two softmaxes and
adds what they give, so that weights sum to 2; and it sorts by one linear layer of each head's summed
keys, where 3.1.1 has two with ReLU of the summed input, as here. Input longer than `max_len` has more
blocks than the sort network has outputs and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lra.models.parts.chance import Chance, Drops, drawn, keep, keep_both, scale
from lra.models.parts.heads import MultiHead, all_real, rotate
from lra.models.parts.patterned import Buffers
from lra.models.parts.tiles import CPU_BLOCK, no_autocast, wide

HIDDEN = -1e4  # finite, so that a query that sees nothing gives numbers; exp of it is 0


class SinkhornAttention(MultiHead):
    """Attention to the query's block and to the one sorted into its place: (B, L, D), (B, L) -> (B, L, D).

    block: W (one shorter block if L < W). iterations, temperature: of the Sinkhorn operator. noise:
    whether Gumbel noise is added to R while training, from the global seed.

    Raises ValueError for a block or a number of iterations below 1, or a temperature that is not
    positive; in `forward`, for L above `max_len`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        block: int = 64,
        iterations: int = 7,
        temperature: float = 0.75,
        noise: bool = True,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, dropout, rotary)
        for field, value in (("block", block), ("iterations", iterations)):
            if value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not at least 1")
        if not temperature > 0:
            raise ValueError(f"model.mixer.temperature: {temperature} is not above 0")
        self.block, self.iterations, self.temperature, self.noise = block, iterations, temperature, noise
        self.gumbel = Chance(noise)
        self.most_blocks = -(-max_len // block)
        self.sort = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, heads * self.most_blocks), nn.ReLU())
        for layer in (self.sort[0], self.sort[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def order(self, x: Tensor, real: Tensor | None) -> Tensor:
        """P: (B, S, W, D) with zeros in the padding, real blocks (B, S) or None for all -> (B, H, S, S)."""
        blocks = x.shape[1]
        scores = self.sort(x.sum(2)).unflatten(-1, (self.heads, -1))[..., :blocks].transpose(1, 2)
        scores = scores.to(wide(scores.dtype))
        if self.noise and self.training:
            scores = scores - self.gumbel.uniform(scores).log_().neg_().log_()
        padding = None if real is None else ~real[:, None]
        if padding is not None:
            scores = scores.masked_fill(padding[..., None] | padding[..., None, :], -1e9)
        return Sinkhorn.apply(scores / self.temperature, padding, self.iterations)

    def path(self, device: torch.device) -> str:
        """ "fused", torch's kernel on CUDA, or "blocks" elsewhere."""
        return "fused" if device.type == "cuda" else "blocks"

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        length = x.shape[1]
        width = min(self.block, length)
        blocks = -(-length // width)
        if blocks > self.most_blocks:
            raise ValueError(f"length {length} is above the {self.max_len} positions that the sort network knows")
        hides = blocks * width > length or not all_real(mask)
        if hides:
            x = F.pad(x.masked_fill(~mask[..., None], 0), (0, 0, 0, blocks * width - length))
            mask = F.pad(mask, (0, blocks * width - length))
        blocked = mask.unflatten(1, (blocks, width))
        p = self.order(x.unflatten(1, (blocks, width)), blocked.any(2) if hides else None)
        bias = visible(p.detach(), blocked) if hides else None
        # One product in place of three, with the scale of the scores in it.
        weight = torch.cat((self.query.weight * self.head_dim**-0.5, self.key.weight, self.value.weight))
        drops = None
        if self.dropout_now:
            # A position has two columns, for what is sorted into its place and for its own key.
            drops = self.chance.drops((*p.shape[:2], x.shape[1], 2 * x.shape[1]), self.dropout, x.device)
        y = attend(p, x, weight, bias, self.rotary, drops)
        return self.out(y[:, :length])


class Sinkhorn(torch.autograd.Function):
    """exp(scores) (B, H, S, S) with rows, then columns, made to sum to 1, `iterations` times, in logs.

    Of the rows and columns of `padding` (B, 1, S), where scores are -1e9, nothing is left but zeros.
    Kept for the backward pass: the logarithm of each step's factors, S numbers instead of S^2.
    """

    @staticmethod
    def forward(ctx, scores, padding, iterations):
        factors = [scores.new_zeros(scores.shape[:3])]
        work = torch.empty_like(scores)
        if scores.shape[-1] == 1:
            iterations = 1  # one number is made to be 1, once and for all
        for step in range(2 * iterations):
            by_row = step % 2 == 0
            torch.add(scores, factors[-1].unsqueeze(-2 if by_row else -1), out=work)
            factor = work.logsumexp(-1 if by_row else -2).neg_()
            factors.append(factor if padding is None else factor.masked_fill_(padding, 0))
        ctx.save_for_backward(scores, padding, *factors)
        return torch.add(scores, factors[-2].unsqueeze(-1), out=work).add_(factors[-1].unsqueeze(-2)).exp_()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        scores, padding, *factors = ctx.saved_tensors
        work = torch.add(scores, factors[-2].unsqueeze(-1)).add_(factors[-1].unsqueeze(-2)).exp_()
        dscores = work.mul_(grad).clone()
        last, before = work.sum(-2), work.sum(-1)  # the gradients of a step's factors and of those before it
        for step in reversed(range(len(factors) - 1)):
            mine, other = (-1, -2) if step % 2 == 0 else (-2, -1)
            if padding is not None:
                last = last.masked_fill(padding, 0)
            # A step's factor is -logsumexp(scores + the factor before): its gradient is minus a softmax.
            torch.add(scores, factors[step].unsqueeze(other), out=work).add_(factors[step + 1].unsqueeze(mine))
            work.exp_().mul_(last.unsqueeze(mine))
            dscores.sub_(work)
            last, before = before.sub_(work.sum(other)), torch.zeros_like(before)
        return dscores, None, None


def visible(p: Tensor, mask: Tensor) -> Tensor:
    """What is added to the scores: p (B, H, S, S), mask (B, S, W) -> (B, H, S, 1, 2W), sorted block first.

    The logarithm of the share of real tokens in each position of a sorted block.
    """
    share = torch.einsum("bhst,btw->bhsw", p, mask.to(p.dtype)) / p.sum(-1, keepdim=True).clamp(min=1e-30)
    both = torch.cat((share, mask[:, None].expand(share.shape).to(p.dtype)), -1)
    return both.log().clamp(min=HIDDEN).unsqueeze(3)


def attend(p: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, rotary: bool, drops: Drops | None) -> Tensor:
    """Project and attend: softmax(q [P k, k] + bias) [P v, v] for each block, heads joined.

    p (B, H, S, S), x (B, S W, D), weight (3 H E, D) of q, k and v, bias (B, H, S, 1, 2W) or None
    -> (B, S W, H E). On CUDA the dropout is that of the fused kernel, which knows of no examples.
    """
    if x.device.type == "cuda":
        return attend_fused(p, x, weight, bias, rotary, drops.rate if drops else 0.0)
    with no_autocast(x):
        return SortedAttention.apply(p.to(wide(p.dtype)), x, weight, bias, rotary, drops)


def attend_fused(p: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, rotary: bool, dropout: float) -> Tensor:
    """`attend` as autograd around the fused kernel has it."""
    heads, blocks = p.shape[1:3]
    q, k, v = F.linear(x, weight).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if rotary:
        q, k = rotate(q), rotate(k)
    q, k, v = (t.unflatten(2, (blocks, -1)) for t in (q, k, v))
    k, v = (torch.cat(((p.to(t.dtype) @ t.flatten(3)).view(t.shape), t), 3).flatten(1, 2) for t in (k, v))
    mask = None if bias is None else bias.to(q.dtype).flatten(1, 2)
    y = F.scaled_dot_product_attention(q.flatten(1, 2), k, v, attn_mask=mask, dropout_p=dropout, scale=1.0)
    return y.view(q.shape).flatten(2, 3).transpose(1, 2).flatten(2)


class SortedAttention(torch.autograd.Function):
    """`attend` for CPUs, a tile of some heads of some examples at a time in float32 at least, in buffers that are
    used again: of long examples one head at a time, of short ones many.

    Kept for the backward pass: q of each tile, its keys and values with their sorted selves, and
    the output. Scores are made again, but not the sort: at 16,384 positions it is a third of the
    arithmetic. Going tile by tile from the projection on, no tensor of q, k and v for all heads is
    ever made, whose rows of one head lie apart and whose size is new memory at every step.
    """

    @staticmethod
    def forward(ctx, p, x, weight, bias, rotary, drops):
        ctx.options = rotary, drops
        work = Work(p, x, weight, bias, *ctx.options)
        out, saved = p.new_empty(*x.shape[:2], weight.shape[0] // 3), []
        outs = work.by_head(out)
        for at in work.tiles():
            q, *kv = work.project(at)
            q = q.clone(memory_format=torch.contiguous_format).flatten(0, 2)
            log_sums, results = p.new_empty(*q.shape[:2], 1), work.take("results", *q.shape)
            keys, values = (work.sort(at, part) for part in kv)
            for some in work.chunks(len(q)):
                weights = work.scores(at, some, q, keys)
                top = weights.amax(-1, keepdim=True)
                total = weights.sub_(top).exp_().sum(-1, keepdim=True)
                torch.add(top, total.log(), out=log_sums[some])
                if drops:
                    keep(weights, work.drawn(at, some, weights), drops.rate, weights)
                    total.div_(scale(drops.rate))
                torch.bmm(weights, values[some], out=results[some]).div_(total)
            outs[at].copy_(results.view(outs[at].shape))
            saved += [q, keys, values, log_sums]
        ctx.save_for_backward(p, x, weight, bias, out, *saved)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        p, x, weight, bias, out, *saved = ctx.saved_tensors
        work = Work(p, x, weight, bias, *ctx.options)
        dp, dx, dweight = torch.empty_like(p), p.new_empty(x.shape), torch.zeros_like(work.weight)
        outs, grads = work.by_head(out), work.by_head(grad)
        for i, at in enumerate(work.tiles()):
            q, keys, values, log_sums = saved[4 * i : 4 * i + 4]
            dkeys, dvalues = (work.take(name, *keys.shape) for name in ("dkeys", "dvalues"))
            g, dq = (work.take(name, *q.shape) for name in ("g", "dq"))
            shape = grads[at].shape
            # The softmax takes off sum_j weights_j dweights_j, which is g . out, dropout or not.
            torch.mul(g.view(shape).copy_(grads[at]), outs[at], out=dq.view(shape))
            mean = dq.sum(-1, keepdim=True)
            if work.drops:
                g.mul_(scale(work.drops.rate))
            for some in work.chunks(len(q)):
                weights = work.scores(at, some, q, keys).sub_(log_sums[some]).exp_()
                dweights = torch.bmm(g[some], values[some].mT, out=work.take("dweights", *weights.shape))
                dropped = weights
                if work.drops:
                    dropped = keep_both(weights, dweights, work.drawn(at, some, weights), work.drops.rate)
                torch.bmm(dropped.mT, g[some], out=dvalues[some])
                dscores = dweights.sub_(mean[some]).mul_(weights)
                torch.bmm(dscores, keys[some], out=dq[some])
                torch.bmm(dscores.mT, q[some], out=dkeys[some])
            (dk, dp_keys), (dv, dp_values) = work.unsort(at, dkeys, keys), work.unsort(at, dvalues, values)
            dp[at] = (dp_keys + dp_values).view(dp[at].shape)
            work.unproject(at, (dq, dk, dv), dx, dweight)
        dweight = dweight.view(p.shape[1], 3, -1, x.shape[2]).transpose(0, 1).reshape(weight.shape)
        return dp, dx.to(x.dtype), dweight.to(weight.dtype), None, None, None


Tile = tuple[slice, slice]  # examples, heads


class Work:
    """What both passes of `SortedAttention` do with a tile of b examples and h heads, and their buffers.

    Its N = b h S blocks follow each other, those of a head together, then those of an example.
    """

    def __init__(
        self, p: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, rotary: bool, drops: Drops | None
    ) -> None:
        self.p, self.bias, self.rotary, self.drops = p, bias, rotary, drops
        heads, self.blocks = p.shape[1:3]
        self.x = x.to(p.dtype)
        self.weight = weight.to(p.dtype).view(3, heads, -1, x.shape[2]).transpose(0, 1).flatten(1, 2)  # (H, 3E, D)
        self.width = x.shape[1] // self.blocks
        self.at_once = max(1, CPU_BLOCK // (2 * self.width**2))  # blocks whose scores fit a core's cache
        self.buffers = Buffers(p.dtype, p.device)
        self.take = self.buffers.take

    def tiles(self) -> Iterator[Tile]:
        """Heads and examples together, as many as fit, but never less than a head of one example."""
        batch, heads = self.p.shape[:2]
        together = max(1, self.at_once // self.blocks)
        examples, each = (together // heads, heads) if together >= heads else (1, together)
        for example, head in product(range(0, batch, examples), range(0, heads, each)):
            yield slice(example, min(example + examples, batch)), slice(head, min(head + each, heads))

    def chunks(self, blocks: int) -> list[slice]:
        """Slices of so many blocks."""
        return [slice(start, start + self.at_once) for start in range(0, blocks, self.at_once)]

    def by_head(self, x: Tensor) -> Tensor:
        """(B, S W, H E) -> (B, H, S, W, E)."""
        return x.unflatten(-1, (self.p.shape[1], -1)).unflatten(1, (self.blocks, -1)).movedim(3, 1)

    def inside(self, mixed: Tensor, at: Tile) -> Tensor:
        """q, k and v of a tile, (3, b, h, S, W, E), in what the projection makes or takes, (b S W, 3 h E)."""
        heads = at[1].stop - at[1].start
        return mixed.view(-1, self.blocks, self.width, heads, 3, mixed.shape[1] // (3 * heads)).permute(
            4, 0, 3, 1, 2, 5
        )

    def turned(self, qkv: Tensor, positions: Tensor | None = None) -> None:
        """Rotate q and k, in place."""
        for part in qkv[:2]:
            part.copy_(rotate(part.flatten(2, 3), positions).view(part.shape))

    def project(self, at: Tile) -> Tensor:
        """q, k and v (3, b, h, S, W, E), in a buffer."""
        x, weight = self.x[at[0]].flatten(0, 1), self.weight[at[1]].flatten(0, 1)
        qkv = self.inside(torch.mm(x, weight.T, out=self.take("mixed", len(x), len(weight))), at)
        if self.rotary:
            self.turned(qkv)
        return qkv

    def unproject(self, at: Tile, gradients: tuple[Tensor, ...], dx: Tensor, dweight: Tensor) -> None:
        """Add the gradients of `project`'s input and weight."""
        examples, heads = at
        x, weight = self.x[examples].flatten(0, 1), self.weight[heads].flatten(0, 1)
        mixed = self.take("mixed", len(x), len(weight))
        qkv = self.inside(mixed, at)
        for part, gradient in zip(qkv, gradients, strict=True):
            part.copy_(gradient.view(part.shape))
        if self.rotary:
            self.turned(qkv, -torch.arange(self.x.shape[1], device=mixed.device))
        # The first heads find no zeros there.
        dx[examples].flatten(0, 1).addmm_(mixed, weight, beta=min(heads.start, 1))
        dweight[heads].flatten(0, 1).addmm_(mixed.T, x)

    def by_tile(self, x: Tensor) -> Tensor:
        """(N, ...) -> (b h, S, ...)."""
        return x.unflatten(0, (-1, self.blocks))

    def sort(self, at: Tile, own: Tensor) -> Tensor:
        """Keys or values (b, h, S, W, E) with what P puts in their place before them: (N, 2W, E)."""
        width = own.shape[-1]
        both = own.new_empty(own.shape[:3].numel(), 2, self.width * width)
        sorted_, copy = both.unbind(1)
        copy.view(own.shape).copy_(own)
        torch.bmm(self.p[at].flatten(0, 1), self.by_tile(copy), out=self.by_tile(sorted_))
        return both.view(len(both), -1, width)

    def unsort(self, at: Tile, gradient: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
        """From the gradient (N, 2W, E) of `sort`'s result, to be overwritten: those of `own`, (N, W, E), and of P."""
        by_sort, own = (self.by_tile(t) for t in gradient.view(len(both), 2, -1).unbind(1))
        dp = torch.bmm(by_sort, self.by_tile(both.view(len(both), 2, -1)[:, 1]).mT)
        own.baddbmm_(self.p[at].flatten(0, 1).mT, by_sort)
        return own.flatten(0, 1).unflatten(1, (self.width, -1)), dp

    def scores(self, at: Tile, some: slice, q: Tensor, keys: Tensor) -> Tensor:
        """Scores (n, W, 2W) of some blocks, to be overwritten."""
        queries, keys = q[some], keys[some]
        scores = torch.bmm(queries, keys.mT, out=self.take("scores", *queries.shape[:2], keys.shape[1]))
        return scores if self.bias is None else scores.add_(self.bias[at].flatten(0, 2)[some])

    def drawn(self, at: Tile, some: slice, weights: Tensor) -> Tensor:
        """The numbers that tell which weights (n, W, 2W) are kept, the same in both passes."""
        rows = self.drops.rows[at].reshape(-1, self.width, 1)[some]
        columns = self.drops.columns[at].reshape(-1, self.width, 2)[some].mT.reshape(len(rows), 1, -1)
        return drawn(rows, columns, self.take("drawn", *weights.shape))
