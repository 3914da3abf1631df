"""Sparse Transformer (Child et al. 2019, arXiv 1904.10509, sections 4.2 and 4.3), both patterns.

Of two index sets A1 and A2, through which any position reaches any other in two steps:

    strided  A1: |i - j| <= l, the neighbours       A2: l divides i - j, the column
    fixed    A1: the same block of l                A2: c positions of every block, its summary

A summary is the last c positions of a block for the first head, the c before them for the next, and
so on, from the end again after l // c heads: section 4.3 finds distinct subblocks preferable to the
same one, and the authors' code deals them out so.

`assign` says which of the sets an attention uses (section 5.1, eqs. 6 to 8): "merged", their union
in every head; "heads", A1 in the first half of the heads and A2 in the others; "layers", in turn.
With l near sqrt(L) the time of strided is O(L sqrt(L) D); that of fixed is O(L (l + L c / l) D).
Memory O(L D).

Departures from the paper: encoder form, so both directions are seen instead of the past alone. There
is no dropout on attention weights: the paper has it only at the end of each residual branch. From the
official LRA code: it keeps the causal mask in a classifier, masks a dense matrix, and has one summary
for all heads and the first position of a block in it. Its setting is fixed, merged, l = 50 and
c = 10, with the CLS row and column open (`global_tokens: 1` here).
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
        parts = self.fixed_parts(length) if self.fixed else self.strided_parts(length)
        return open_to_all([p for p in parts if p.heads[0] < p.heads[1]], self.global_tokens, length)

    def halves(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The heads of A1 and of A2."""
        return (0, self.near), (0 if self.merged else self.near, self.heads)

    def strided_parts(self, length: int) -> list[Part]:
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
        return [
            Part(within(start + query, length), within(start + key, length)[None], near, hidden=hidden),
            Part(
                within(first + torch.arange(tile) * self.stride, length),
                within(column, length)[None],
                far,
                joins=self.merged,
            ),
        ]

    def fixed_parts(self, length: int) -> list[Part]:
        near, far = self.halves()
        start = starts(length, self.stride)
        block = within(start + torch.arange(self.stride), length)
        # Of each head: the places in a block, its summary last.
        turn = (torch.arange(*far) - far[0]) % (self.stride // self.summary)
        place = (torch.arange(self.stride) - turn[:, None, None] * self.summary) % self.stride
        own, summary = place.split((self.stride - self.summary, self.summary), dim=-1)
        summaries = within(start + summary, length).flatten(1)
        # Only the last block may lack some. A list must hold something: without a summary it keeps one -1.
        summaries = summaries[:, None, : max(1, int((summaries >= 0).any(0).sum()))]
        if self.merged:
            keys = torch.cat((within(start + own, length), summaries.expand(-1, len(start), -1)), dim=-1)
            return [Part(block, keys, near)]
        query = starts(length, min(WIDEST_TILE, length)) + torch.arange(min(WIDEST_TILE, length))
        return [Part(block, block[None], near), Part(within(query, length), summaries.repeat(1, len(query), 1), far)]

    def rule(self, length: int) -> Rule:
        stride, summary, fixed, first = self.stride, self.summary, self.fixed, self.global_tokens
        near_end, far_start = self.near, self.halves()[1][0]
        turns = max(1, stride // summary)

        def seen(head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            if fixed:
                from_end = (stride - 1 - key % stride) // summary
                near, far = query // stride == key // stride, from_end == (head - far_start) % turns
            else:
                near, far = (query - key).abs() <= stride, (query - key) % stride == 0
            by_head = (near & (head < near_end)) | (far & (head >= far_start))
            return by_head | (query < first) | (key < first)

        return seen
