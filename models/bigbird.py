"""BigBird (Zaheer et al. 2020, arXiv 2007.14062, section 2 and appendix D): window, global, random.

The sequence is cut into blocks of W. A block of queries sees `window_blocks` blocks around it, the
global blocks, and `random_blocks` others; global blocks see and are seen by all. Two constructions:

    ITC  global blocks are blocks of the sequence: the first and the last (`global_blocks` = 2)
    ETC  global tokens are added to it (`extra_tokens`), and go through all layers in front of the
         sequence: build the stack as `models.bigbird.ExtraTokens`

Time O(L W (window + global + random) D), memory O(L D).

The links are drawn once, at construction, from the global seed, over the blocks of `max_len`; they
are a buffer, so a checkpoint keeps them. A shorter input sees the restriction of that pattern, as if
padded to `max_len`, which is what the official code does: padding moves no link, and the last block
is global only to inputs that reach it.

Departures from the paper: none known. There is no dropout on attention weights, as in the authors'
block-sparse code. From the official LRA code: it draws the links among the first 1,024 tokens only,
adds a block of padding to a length that needs none, and counts that block as real.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lra.models.parts.heads import led
from lra.models.parts.pattern import Part, Rule, all_keys, open_to_all, within
from lra.models.parts.patterned import Patterned
from lra.models.stack import ResidualStack


class BigBird(Patterned):
    """Block-sparse attention over a window, global blocks or tokens, and random blocks.

    global_blocks: half of them, rounded up, are the first blocks, the others the last.
    extra_tokens: the first positions of the input are global tokens and stand outside the blocks
    and outside `max_len`.
    shared_links: all heads have the same random blocks.

    Raises ValueError for sizes that are not positive, an even window, or an input above `max_len`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        rotary: bool = False,
        block: int = 64,
        window_blocks: int = 3,
        global_blocks: int = 2,
        random_blocks: int = 3,
        extra_tokens: int = 0,
        shared_links: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim=qkv_dim, rotary=rotary, backend=backend)
        if block < 1:
            raise ValueError(f"model.mixer.block: {block} is not a positive number of positions")
        if window_blocks < 1 or window_blocks % 2 == 0:
            raise ValueError(f"model.mixer.window_blocks: {window_blocks} is not an odd number of blocks, 1 or more")
        counts = {"global_blocks": global_blocks, "random_blocks": random_blocks, "extra_tokens": extra_tokens}
        for field, value in counts.items():
            if value < 0:
                raise ValueError(f"model.mixer.{field}: {value} is not 0 or more")
        self.block, self.half, self.extra_tokens = block, window_blocks // 2, extra_tokens
        self.count = -(-max_len // block)
        self.first_global, self.last_global = (global_blocks + 1) // 2, self.count - global_blocks // 2
        number = torch.arange(self.count)
        # Sorting noise draws without replacement; blocks that are seen anyway sort behind.
        noise = torch.rand(1 if shared_links else heads, self.count, self.count)
        near = (number[:, None] - number).abs() <= self.half
        noise, links = noise.masked_fill(near | self.is_global(number), 2).sort(dim=-1)
        self.register_buffer("links", links.masked_fill(noise == 2, -1)[..., :random_blocks].clone())

    def is_global(self, block: Tensor) -> Tensor:
        return (block < self.first_global) | (block >= self.last_global)

    def parts(self, length: int) -> list[Part]:
        inner = length - self.extra_tokens
        if inner > self.max_len:
            raise ValueError(f"length {inner} is above max_len {self.max_len}, for which BigBird's links were drawn")
        count = -(-max(inner, 0) // self.block)
        # On the meta device only shapes count, and any links have theirs.
        links = torch.zeros(self.links.shape, dtype=torch.int64) if self.links.is_meta else self.links.cpu()
        number = torch.arange(count)
        own, everywhere = number[~self.is_global(number)], number[self.is_global(number)]
        window = own[:, None] + torch.arange(-self.half, self.half + 1)
        window = within(window, count).masked_fill(self.is_global(window), -1)
        fixed = torch.cat((everywhere.expand(len(own), -1), window), dim=-1).expand(len(links), -1, -1)
        seen = torch.cat((fixed, links[:, own]), dim=-1)
        heads, parts = (0, self.heads), []
        if len(own):
            parts.append(Part(self.positions(own[:, None], length), self.positions(seen, length), heads))
        if len(everywhere):
            rows = self.positions(everywhere, length)
            parts += all_keys(rows[rows >= 0], length, heads)
        return open_to_all(parts, self.extra_tokens, length) if parts else all_keys(torch.arange(length), length, heads)

    def positions(self, blocks: Tensor, length: int) -> Tensor:
        """Block numbers (..., N) -> positions (..., N x W), -1 for block -1 and past the end."""
        inside = within(self.extra_tokens + blocks[..., None] * self.block + torch.arange(self.block), length)
        return inside.masked_fill(blocks[..., None] < 0, -1).flatten(-2)

    def table(self, count: int) -> Tensor:
        """(H, S, S) bool: which block sees which, among the first `count`."""
        number = torch.arange(count, device=self.links.device)
        row, column = number[:, None], number
        seen = ((row - column).abs() <= self.half) | self.is_global(row) | self.is_global(column)
        linked = (self.links[:, :count, :, None] == number).any(dim=2)
        return (seen | linked).expand(self.heads, count, count)

    def rule(self, length: int) -> Rule:
        block, extra = self.block, self.extra_tokens
        table = self.table(max(1, -(-(length - extra) // block)))

        def seen(head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            linked = table[head, (query - extra).clamp(min=0) // block, (key - extra).clamp(min=0) // block]
            return linked | (query < extra) | (key < extra)

        return seen


class ExtraTokens(ResidualStack):
    """The residual stack with `extra_tokens` learned vectors in front: BigBird-ETC.

    They are real positions to every layer and are dropped at the end, so the map stays
    (B, L, D), (B, L) -> (B, L, D). The mixer must be told their number too.
    """

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        extra_tokens: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__(mixer, depth, dim, mlp_dim, dropout=dropout, checkpoint=checkpoint)
        self.extra = nn.Parameter(torch.randn(extra_tokens, dim) * 0.02)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        count = len(self.extra)
        x = torch.cat((self.extra.to(x.dtype).expand(len(x), -1, -1), x), dim=1)
        mask = led(mask, count)
        return super().forward(x, mask)[:, count:]
