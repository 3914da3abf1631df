"""Mega (Ma et al. 2022, arXiv 2209.10655): gated attention of one head, its queries and keys from a moving average.

    x~ = silu( k conv x + k' corr x + w * x ),  k_l = sum_n p_n b_n (1 - p_n s_n)^l e_n / sqrt(N)    p, s sigmoids
    V = silu(W_v x),   u, z, r, c = sigmoid, silu, silu of W x~ + b, and what is left of it
    q, k = z * g_1 + h_1, z * g_2 + h_2
    h = silu( c + W_h (r * A V) + b_h ),   out = u * (h - x)

Both kernels, along the length and against it, have a tap for the position itself. They end after `truncation` taps. A
is, with b one learned number for each distance,

    softmax:  softmax_j( q_i k_j / sqrt(E) + b_{i-j} )
    laplace:  (1 + erf((t - sqrt(1/2)) / (s sqrt(2)))) / 2,   t = q_i k_j / n + b_{i-j},   s = 1 / sqrt(4 pi)

over the n real keys of the `chunk` of the query, or of all if `chunk` is null. The paper's layer is x + out; in the
common stack the x in out is normed, the one that out is added to is not.

Time O(L C D) in chunks of C and O(L^2 D) without, plus O(L log L D); memory O(L D): what follows the average is
computed again going back, a piece of positions at a time. To the average a hole keeps its distance, as to the bias;
attention does not see it. No attention crosses the border of a chunk, so that a shift of the tokens moves more than
the answer's place. Dropout acts on A; `inner_dropout`, which the paper has, on x~ and h.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from lra.models.parts.chance import Dropout
from lra.models.parts.conv import long_conv
from lra.models.parts.recurrent import hidden
from lra.models.parts.tiles import budget, no_autocast, wide

ATTENTIONS = ("softmax", "laplace")
# Queries that see the whole length together, at least: with fewer, reading k and V again for each few of them shows
# (seconds at 16,384 positions, width 64, of 16, 32, 64 and 128 queries: 22, 17, 14.6, 14.6).
ROWS = 64
MEAN, SPREAD = math.sqrt(0.5), math.sqrt(0.25 / math.pi)


class MovingAverage(nn.Module):
    """The damped average of many speeds a channel, to both sides; the first formula of the module before silu.

    `speeds` is N. Initial values as in the authors' code: p and s from N(0, 0.2^2) before the sigmoid, b from 1, -1,
    1, ... plus N(0, 0.02^2), e and w from N(0, 1).
    """

    def __init__(self, dim: int, speeds: int, truncation: int) -> None:
        super().__init__()
        self.truncation = truncation
        self.weight, self.damping = (nn.Parameter(torch.randn(2, dim, speeds) * 0.2) for _ in range(2))
        signs = 1.0 - 2 * (torch.arange(speeds) % 2)
        self.into = nn.Parameter(signs + torch.randn(2, dim, speeds) * 0.02)
        self.out = nn.Parameter(torch.randn(2, dim, speeds))
        self.skip = nn.Parameter(torch.randn(dim))

    def kernels(self, length: int) -> Tensor:
        """The first `length` taps of both kernels, (2, D, length), at least float32.

        Tap aK + b is sum_n (c_n q_n^(aK)) q_n^b, a product of two small matrices a channel.
        """
        weight, damping, into, out = (t.to(wide(t.dtype)) for t in (self.weight, self.damping, self.into, self.out))
        p = weight.sigmoid()
        log_q = torch.log1p(-p * damping.sigmoid()).unsqueeze(-2)
        step = math.isqrt(length - 1) + 1
        near = torch.arange(step, device=p.device, dtype=p.dtype).unsqueeze(-1)
        far = torch.arange(0, length, step, device=p.device, dtype=p.dtype).unsqueeze(-1)
        scale = (p * into * out * out.shape[-1] ** -0.5).unsqueeze(-2)
        with no_autocast(p):
            taps = (scale * (log_q * far).exp()) @ (log_q * near).exp().mT
        return taps.flatten(2)[..., :length]

    def state_floats(self, length: int) -> int:
        """Averages of both directions."""
        return self.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        back, ahead = self.kernels(min(x.shape[1], self.truncation))
        return long_conv(x, back, ahead, lag=0) + x * self.skip.to(x.dtype)


class GatedAttention(nn.Module):
    """What follows the average, which is any map (B, L, D) -> (B, L, D) whose output at padding is not looked at.

    `keys` is the width of q and k, `expand` the width of V over D; see the module. Raises ValueError for options out
    of range.
    """

    def __init__(
        self,
        average: nn.Module,
        dim: int,
        max_len: int,
        dropout: float,
        chunk: int | None,
        attention: str,
        keys: int,
        expand: int,
        inner_dropout: float,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"model.mixer.attention: {attention!r} is not one of {', '.join(ATTENTIONS)}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"model.mixer.chunk: {chunk} is not above 0, or null")
        above_zero(keys=keys, expand=expand)
        self.chunk, self.attention, self.dropout = chunk, attention, Dropout(dropout)
        self.smooth_dropout, self.hidden_dropout = (Dropout(inner_dropout) if inner_dropout else None for _ in range(2))
        self.widths = [dim, keys, expand * dim, dim]
        self.average = average
        self.value, self.mixed = nn.Linear(dim, expand * dim), nn.Linear(dim, sum(self.widths))
        self.out = nn.Linear(expand * dim, dim)
        for layer in (self.value, self.mixed, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.gain, self.offset = nn.Parameter(torch.randn(2, keys) * 0.02), nn.Parameter(torch.zeros(2, keys))
        self.reach = chunk or max_len
        self.bias = nn.Parameter(torch.randn(2 * self.reach - 1) * 0.02)

    def forward(self, x: Tensor, mask: Tensor, residual: Tensor | None = None) -> Tensor:
        """u * (h - residual), which is x where nothing is said."""
        x, _ = hidden(x, mask)
        residual = x if residual is None else residual
        smooth = F.silu(self.average(x))
        if self.smooth_dropout is not None:
            smooth = self.smooth_dropout(smooth)
        length = x.shape[1]
        if self.chunk is None:
            return self.everywhere(x, smooth, residual, mask)
        size = min(self.chunk, length)
        piece = size * max(1, budget(x.device) // (len(x) * x.shape[2] * size))
        firsts = range(0, -(-length // size), piece // size)
        parts = zip(*(t.split(piece, 1) for t in (x, smooth, residual, mask)), firsts, strict=True)
        return torch.cat([recompute(self.within, *part, size, use_reentrant=False) for part in parts], 1)

    def state_floats(self, length: int) -> int:
        """The averages; keys and values of a chunk."""
        return self.average.state_floats(length) + (self.widths[1] + self.widths[2]) * min(self.reach, length)

    def within(self, x: Tensor, smooth: Tensor, residual: Tensor, mask: Tensor, first: int, size: int) -> Tensor:
        """Chunks of `size` positions from number `first` on, the last perhaps cut short: x, x~, residual (B, n, D),
        mask (B, n) -> (B, n, D)."""
        length = x.shape[1]
        missing = -length % size
        x, smooth = (F.pad(t, (0, 0, 0, missing)) for t in (x, smooth))
        mask = F.pad(mask, (0, missing))
        u, q, k, r, c = self.project(smooth)
        values = F.silu(self.value(x))
        q, k, values = (t.unflatten(1, (-1, size)) for t in (q, k, values))
        seen = mask.unflatten(1, (-1, size)).unsqueeze(2)
        attended = self.attend(q, k, values, seen, self.biases(0, size, size), first).flatten(1, 2)
        u, r, c, attended = (t[:, :length] for t in (u, r, c, attended))
        return self.gated(residual, u, r, c, attended, first * size)

    def everywhere(self, x: Tensor, smooth: Tensor, residual: Tensor, mask: Tensor) -> Tensor:
        """All positions see all, some queries at a time: x, x~, residual (B, L, D), mask (B, L) -> (B, L, D)."""
        length = x.shape[1]
        _, _, k, _, _ = self.project(smooth)
        values = F.silu(self.value(x))

        def rows(residual: Tensor, smooth: Tensor, k: Tensor, values: Tensor, first: int) -> Tensor:
            u, q, _, r, c = self.project(smooth)
            bias = self.biases(first, smooth.shape[1], length)
            attended = self.attend(q, k, values, mask.unsqueeze(1), bias, first)
            return self.gated(residual, u, r, c, attended, first)

        size = max(ROWS, budget(x.device) // (len(x) * length))
        firsts = range(0, length, size)
        queries = zip(firsts, residual.split(size, 1), smooth.split(size, 1), strict=True)
        return torch.cat([recompute(rows, a, b, k, values, first, use_reentrant=False) for first, a, b in queries], 1)

    def project(self, smooth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x~ (B, n, D) -> u, q, k, r, c."""
        u, z, r, c = self.mixed(smooth).split(self.widths, -1)
        q, k = (F.silu(z).unsqueeze(-2) * self.gain + self.offset).unbind(-2)
        return u.sigmoid(), q, k, F.silu(r), c

    def biases(self, first: int, rows: int, length: int) -> Tensor:
        """b_{i-j} of queries first, first + 1, ... and keys 0 ... L - 1: (rows, length)."""
        if length > self.reach:
            raise ValueError(f"length {length} is above the {self.reach} positions whose distances are learned")
        start = self.reach - first - rows
        return self.bias[start : start + length + rows - 1].unfold(0, length, 1).flip(0)

    def attend(self, q: Tensor, k: Tensor, values: Tensor, seen: Tensor, bias: Tensor, first: int) -> Tensor:
        """q (..., n, E), k (..., C, E), values (..., C, V), seen (..., 1, C), bias (n, C) -> (..., n, V).

        first: of the chunks or of the queries, whichever come second of the dimensions.
        """
        dtype = wide(q.dtype)
        with no_autocast(q):
            scores = q.to(dtype) @ k.to(dtype).mT
            if self.attention == "softmax":
                scores = scores * q.shape[-1] ** -0.5 + bias.to(dtype)
                weights = scores.masked_fill(~seen, torch.finfo(dtype).min).softmax(-1)
            else:
                scores = scores / seen.sum(-1, keepdim=True).clamp(min=1) + bias.to(dtype)
                weights = 0.5 + 0.5 * torch.erf((scores - MEAN) / (SPREAD * math.sqrt(2)))
            weights = self.dropout(weights.masked_fill(~seen, 0), first)
            return (weights @ values.to(dtype)).to(values.dtype)

    def gated(self, residual: Tensor, u: Tensor, r: Tensor, c: Tensor, attended: Tensor, first: int) -> Tensor:
        """u * (h - residual), (B, n, D), of positions from number `first` on."""
        h = F.silu(c + self.out(r * attended))
        if self.hidden_dropout is not None:
            h = self.hidden_dropout(h, first)
        return u * (h - residual)


class Mega(GatedAttention):
    """Mega in chunks of `chunk`, or over the whole length; see the module.

    `speeds` is N, `inner_dropout` that of x~ and h, the other options are those of `GatedAttention`. Raises ValueError
    for options out of range.
    """

    def __init__(
        self,
        dim: int,
        max_len: int,
        dropout: float = 0.0,
        chunk: int | None = 128,
        attention: str = "softmax",
        keys: int = 64,
        expand: int = 2,
        speeds: int = 16,
        truncation: int = 1024,
        inner_dropout: float = 0.0,
    ) -> None:
        above_zero(speeds=speeds, truncation=truncation)
        average = MovingAverage(dim, speeds, truncation)
        super().__init__(average, dim, max_len, dropout, chunk, attention, keys, expand, inner_dropout)


def above_zero(**options: int) -> None:
    """Raises ValueError for an option of the mixer below 1."""
    for field, value in options.items():
        if value < 1:
            raise ValueError(f"model.mixer.{field}: {value} is not above 0")
