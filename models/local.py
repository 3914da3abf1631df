"""Local attention: blocks that do not see each other, the LRA's simplest baseline.

Tay et al. 2021 (arXiv 2011.04006, section 3.3 and appendix): the sequence is cut into contiguous
blocks of W and softmax(Q K^T / sqrt(E)) V runs inside each. With `neighbours` = n a block also sees
the n blocks on either side, which is the local attention of most libraries. Time O(L W (2n + 1) D),
memory O(L D).

Departures from the paper: none. From the official code: it reshapes to (W, L / W) before attending
along the first axis, which makes strided groups instead of blocks and leaves the padding mask
misaligned with them; it adds a whole block of padding to a length that needs none.

A block never hears of the others, so with `pooling: cls` the answer depends on the first block only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.parts.pattern import Part, Rule, starts, within
from lra.models.parts.patterned import Patterned


class Local(Patterned):
    """Contiguous blocks of `block` positions, each seeing `neighbours` blocks on either side.

    Attention weights get `dropout`, as all of the official models but a few do.
    Raises ValueError if `block` < 1 or `neighbours` < 0.
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
        neighbours: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim=qkv_dim, dropout=dropout, rotary=rotary, backend=backend)
        if block < 1:
            raise ValueError(f"model.mixer.block: {block} is not a positive number of positions")
        if neighbours < 0:
            raise ValueError(f"model.mixer.neighbours: {neighbours} is not a number of blocks, 0 or more")
        self.block, self.neighbours = block, neighbours

    def parts(self, length: int) -> list[Part]:
        width = min(self.block, length)
        start = starts(length, width)
        reach = min(self.neighbours, len(start) - 1) * width
        queries, keys = start + torch.arange(width), start + torch.arange(-reach, width + reach)
        return [Part(within(queries, length), within(keys, length)[None], (0, self.heads))]

    def rule(self, length: int) -> Rule:
        block, neighbours = self.block, self.neighbours

        def seen(head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query // block - key // block).abs() <= neighbours

        return seen

    def state_floats(self, length: int) -> int:
        """Keys and values of the blocks that one sees."""
        return super().state_floats(min(length, self.block * (2 * self.neighbours + 1)))
