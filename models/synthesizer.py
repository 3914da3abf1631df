"""Synthesizer (Tay et al. 2021, arXiv 2005.00743): attention weights that are not products of tokens.

The logits of query i and key j, per head (section 3):

    dense               (W_2 relu(W_1 x_i + b_1) + b_2)_j                             eq. 1, 2
    random              R_ij, learned                                                 eq. 4
    fixed_random        R_ij, as drawn, in no optimizer's hands                       3.2
    factorized_dense    A(x_i)_(j mod a) B(x_i)_(j div a), A and B like the dense     3.3.1
    factorized_random   (R_1 R_2^T)_ij, R_1 and R_2 (L, rank)                         3.3.2

With `dot_product` they are mixed with q_i . k_j / sqrt(E), both under weights that are learned and
sum to 1 (3.4). Then a softmax over the real keys, and the values.

Dense and factorized_random logits are products of L x few matrices, so they run as ordinary
attention, with learned vectors for queries or keys, in a fused kernel.

Time O(L^2 D). Memory O(L D) for dense and factorized_random, else O(L^2 H). Parameters, built for
`max_len` = N and sliced for shorter input, a head: dense N E, random N^2 (fixed: as many numbers in a
buffer, from the seed), factorized_dense about 2 sqrt(N) E, factorized_random 2 N rank.

Departures. From the paper: W_1 maps to the width of a head. It leaves open how R is drawn. Where R is
learned that is Xavier, to which its authors' code (Mesh TensorFlow) also defaults, and the logits start
near 0 (of 1,024 positions, within 0.06). Kept so they would weigh all positions alike for ever, the
mean and no random pattern: a fixed R is of unit variance, as dot products over sqrt(E) are. From the
official code, which runs random plus dot product whatever is asked for (spec 4.4), and never a fixed
R: it adds the two without weights.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Drops
from lra.models.parts.heads import MultiHead, all_real, rotate
from lra.models.parts.softmax import attend, dropped, path

PRODUCTS = ("dense", "factorized_random")  # whose logits are products of two factors
KINDS = ("dense", "random", "fixed_random", "factorized_dense", "factorized_random")


class Synthesizer(MultiHead):
    """(B, L, D), (B, L) -> (B, L, D).

    kind: see above. rank: of factorized_random. dot_product: mix with scaled dot products, the only
    place where rotary positions have a meaning.

    Raises ValueError for an unknown kind, a rank below 1, rotary without dot_product and, in
    `forward`, for L above `max_len`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        kind: str = "random",
        dot_product: bool = True,
        rank: int = 8,
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim, dropout, rotary)
        if kind not in KINDS:
            raise ValueError(f"model.mixer.kind: {kind!r} is not one of {', '.join(KINDS)}")
        if rank < 1:
            raise ValueError(f"model.mixer.rank: {rank} is not at least 1")
        if rotary and not dot_product:
            raise ValueError("model.position: rotary needs model.mixer.dot_product=true; there is no query-key product")
        self.kind = kind
        self.mixture = nn.Parameter(torch.zeros(2)) if dot_product else None
        if not dot_product:
            self.query = self.key = self.relations = None
        if kind == "random":
            self.logits = learned(heads, max_len, max_len)
        elif kind == "fixed_random":
            self.register_buffer("logits", torch.randn(heads, max_len, max_len))
        elif kind == "factorized_random":
            self.rows, self.columns = learned(heads, max_len, rank), learned(heads, max_len, rank)
        elif kind == "dense":
            self.synthesize = Synthesize(dim, heads, self.head_dim, max_len)
        else:
            # a x b >= max_len, both near its square root
            self.inner = math.isqrt(max_len - 1) + 1
            self.synthesize_inner = Synthesize(dim, heads, self.head_dim, self.inner)
            self.synthesize_outer = Synthesize(dim, heads, self.head_dim, -(-max_len // self.inner))

    def state_floats(self, length: int) -> int:
        """Values, and keys where there are any."""
        return super().state_floats(length) // (1 if self.key is not None else 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if x.shape[1] > self.max_len:
            raise ValueError(f"length {x.shape[1]} is above the {self.max_len} positions that are learned")
        keys = None
        if not all_real(mask):
            x, keys = x.masked_fill(~mask[..., None], 0), mask[:, None, None]
        products = self.products(x)
        v = self.split(self.value(x))
        if self.kind in PRODUCTS:
            y = fused(products, v, keys, self.drops(v))
        else:
            y = plain(self.table(x), products, v, keys, self.drops(v))
        return self.out(self.join(y))

    def path(self, device: torch.device) -> str:
        """ "fused" or "blocks", as of `softmax.attend`; "plain" where a table of logits stands in full."""
        way = path(device, self.dropout)
        return way if way == "blocks" or self.kind in PRODUCTS else "plain"

    def products(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Pairs (B or 1, H, L, n) whose products a b^T add up to the logits, or to their part that has that form."""
        length = x.shape[1]
        share, pairs = self.shares(x.dtype), []
        if self.kind == "dense":
            hidden, weight = self.synthesize.factors(x, length)
            pairs.append((hidden * share[0], weight))
        elif self.kind == "factorized_random":
            rows, columns = (t[None, :, :length].to(x.dtype) for t in (self.rows, self.columns))
            pairs.append((rows * share[0], columns))
        if self.query is not None:
            q, k = self.split(self.query(x)), self.split(self.key(x))
            if self.rotary:
                q, k = rotate(q), rotate(k)
            pairs.append((q * (share[1] * self.head_dim**-0.5), k))
        return pairs

    def shares(self, dtype: torch.dtype) -> Tensor | tuple[float]:
        """Weights of the synthesized logits and of the dot products; they sum to 1."""
        return (1.0,) if self.mixture is None else self.mixture.softmax(0).to(dtype)

    def table(self, x: Tensor) -> Tensor:
        """Synthesized logits (B or 1, H, L, L) that are no product of two factors."""
        length = x.shape[1]
        if self.kind in ("random", "fixed_random"):
            logits = self.logits[None, :, :length, :length].to(x.dtype)
        else:
            inner, outer = self.synthesize_inner(x), self.synthesize_outer(x)
            logits = (outer[..., :, None] * inner[..., None, :]).flatten(3)[..., :length]
        return logits * self.shares(x.dtype)[0]


class Synthesize(nn.Module):
    """F (eq. 1): W_2 relu(W_1 x + b_1) + b_2 for each head, (B, L, D) -> (B, H, L, outputs)."""

    def __init__(self, dim: int, heads: int, width: int, outputs: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.hidden = nn.Linear(dim, heads * width)
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        self.weight, self.bias = learned(heads, outputs, width), nn.Parameter(torch.zeros(heads, outputs, 1))

    def factors(self, x: Tensor, outputs: int | None = None) -> tuple[Tensor, Tensor]:
        """a (B, H, L, width + 1) and b (1, H, outputs, width + 1) with F(x) = a b^T."""
        hidden = self.hidden(x).relu().unflatten(-1, (self.heads, self.width)).transpose(1, 2)
        columns = torch.cat((self.weight, self.bias), -1)[None, :, :outputs].to(hidden.dtype)
        return F.pad(hidden, (0, 1), value=1.0), columns

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.factors(x)
        return a @ b.mT


def learned(heads: int, rows: int, columns: int) -> nn.Parameter:
    """(H, rows, columns), Xavier uniform for each head."""
    bound = math.sqrt(6 / (rows + columns))
    return nn.Parameter(torch.empty(heads, rows, columns).uniform_(-bound, bound))


def fused(products: list[tuple[Tensor, Tensor]], v: Tensor, keys: Tensor | None, drops: Drops | None) -> Tensor:
    """softmax(sum of products) v as one attention over joined features, padded to a common width."""
    batch, each = len(v), v.shape[-1]
    q, k = (
        torch.cat([t.to(v.dtype).expand(batch, -1, -1, -1) for t in side], -1) for side in zip(*products, strict=True)
    )
    width = -(-max(q.shape[-1], each) // 8) * 8
    q, k, v = (F.pad(t, (0, width - t.shape[-1])) for t in (q, k, v))
    return attend(q, k, v, keys, drops, 1.0)[..., :each]


def plain(
    table: Tensor, products: list[tuple[Tensor, Tensor]], v: Tensor, keys: Tensor | None, drops: Drops | None
) -> Tensor:
    """softmax(table + sum of products) v."""
    if drops and v.device.type == "cpu":
        q, k = products[0] if products else [v[..., :0]] * 2
        return dropped(q, k, v, keys, drops, 1.0, table)
    logits = table
    for a, b in products:
        logits = logits + a @ b.mT
    if keys is not None:
        logits = logits.masked_fill(~keys, torch.finfo(logits.dtype).min)
    weights = logits.softmax(-1)
    if drops:
        # Random logits alone are the same for all examples, but each of them drops by itself.
        weights = drops.of(weights.expand(len(v), -1, -1, -1))
    return weights @ v.to(logits.dtype)
