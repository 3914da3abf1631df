"""Sparse Transformer (Child et al. 2019, arXiv 1904.10509, sections 4.2 and 4.3), both patterns.

Of two index sets A1 and A2, through which any position reaches any other in two steps:

    strided  A1: |i - j| <= l, the neighbours       A2: l divides i - j, the column
    fixed    A1: the same block of l                A2: the last c positions of every block

`assign` says which of them an attention uses (section 4.3, eqs. 5 to 7): "merged", their union in
every head; "heads", A1 in the first half of the heads and A2 in the others; "layers", in turn.
With l near sqrt(L) the time of strided is O(L sqrt(L) D); that of fixed is O(L (l + L c / l) D).
Memory O(L D).

Departures from the paper: encoder form, so both directions are seen instead of the past alone. There
is no dropout on attention weights: the paper has it only at the end of each residual branch. From the
official LRA code: it keeps the causal mask in a classifier, and masks a dense matrix. Its setting is
fixed, merged, l = 50 and c = 10, with the CLS row and column open (`global_tokens: 1` here).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.parts.pattern import Part, Rule, open_to_all, starts, within
from lra.models.parts.patterned import Patterned

PATTERNS = ("strided", "fixed")
ASSIGNMENTS = ("merged", "heads", "layers")
WIDEST_TILE = 128


class Sparse(Patterned):
    """Factorised sparse attention.

    stride: l above. summary: c above, for the fixed pattern. global_tokens: that many first
    positions see and are seen by all, as the CLS token is in the official code.

    Raises ValueError for an unknown pattern or assignment, a stride < 1, a summary outside
    1..stride, or "heads" with one head.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        pattern: str = "fixed",
        assign: str = "merged",
        stride: int = 128,
        summary: int = 8,
        global_tokens: int = 0,
        layer: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim=qkv_dim, rotary=rotary, backend=backend)
        for field, value, allowed in (("pattern", pattern, PATTERNS), ("assign", assign, ASSIGNMENTS)):
            if value not in allowed:
                raise ValueError(f"model.mixer.{field}: {value!r} is not one of {', '.join(allowed)}")
        if stride < 1:
            raise ValueError(f"model.mixer.stride: {stride} is not a positive number of positions")
        if pattern == "fixed" and not 1 <= summary <= stride:
            raise ValueError(f"model.mixer.summary: {summary} is not in 1..{stride}, the stride")
        if assign == "heads" and heads < 2:
            raise ValueError("model.mixer.assign: heads needs two heads or more; use merged or layers")
        if global_tokens < 0:
            raise ValueError(f"model.mixer.global_tokens: {global_tokens} is not a number of tokens, 0 or more")
        self.fixed, self.merged, self.stride, self.summary = pattern == "fixed", assign == "merged", stride, summary
        self.global_tokens = global_tokens
        # Heads before this one use A1, the others A2.
        self.near = {"merged": heads, "heads": (heads + 1) // 2, "layers": heads * (layer % 2 == 0)}[assign]

    def parts(self, length: int) -> list[Part]:
        near, far = self.fixed_parts(length) if self.fixed else self.strided_parts(length)
        if not self.merged:
            parts = [part for part in (near, far) if part.heads[0] < part.heads[1]]
        elif self.fixed:
            keys = torch.cat((near.keys, far.keys[:, :1].expand(-1, near.keys.shape[1], -1)), dim=-1)
            parts = [Part(near.queries, keys, near.heads)]
        else:
            parts = [near, far]
        return open_to_all(parts, self.global_tokens, length)

    def halves(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The heads of A1 and of A2."""
        return (0, self.near), (0 if self.merged else self.near, self.heads)

    def strided_parts(self, length: int) -> tuple[Part, Part]:
        near, far = self.halves()
        width, reach = min(self.stride, WIDEST_TILE, length), min(self.stride, length - 1)
        start, query, key = starts(length, width), torch.arange(width), torch.arange(-reach, width + reach)
        apart = key - query[:, None]
        # Merged, what is in both sets is left to the column.
        hidden = (apart.abs() > self.stride) | (self.merged & (apart % self.stride == 0))
        rows = -(-length // self.stride)
        tile = min(rows, WIDEST_TILE)
        first = starts(length, tile, self.stride)
        column = first % self.stride + torch.arange(rows) * self.stride
        return (
            Part(within(start + query, length), within(start + key, length)[None], near, hidden=hidden),
            Part(
                within(first + torch.arange(tile) * self.stride, length),
                within(column, length)[None],
                far,
                joins=self.merged,
            ),
        )

    def fixed_parts(self, length: int) -> tuple[Part, Part]:
        near, far = self.halves()
        start = starts(length, self.stride)
        # Merged, a block's own summary is left to the summaries of all blocks.
        own = start + torch.arange(self.stride - self.summary * self.merged)
        last = within(start + torch.arange(self.stride - self.summary, self.stride), length).flatten()
        # A list must hold something: a sequence without a summary keeps one -1.
        last = last[: max(1, int((last >= 0).sum()))]
        query = starts(length, min(WIDEST_TILE, length)) + torch.arange(min(WIDEST_TILE, length))
        return (
            Part(within(start + torch.arange(self.stride), length), within(own, length)[None], near),
            Part(within(query, length), last.expand(1, len(query), -1), far),
        )

    def rule(self, length: int) -> Rule:
        stride, summary, fixed, first = self.stride, self.summary, self.fixed, self.global_tokens
        near_end, far_start = self.near, 0 if self.merged else self.near

        def seen(head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            if fixed:
                near, far = query // stride == key // stride, key % stride >= stride - summary
            else:
                near, far = (query - key).abs() <= stride, (query - key) % stride == 0
            by_head = (near & (head < near_end)) | (far & (head >= far_start))
            return by_head | (query < first) | (key < first)

        return seen
