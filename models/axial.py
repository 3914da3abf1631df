"""Axial attention (Ho et al. 2019, arXiv 1912.12180) over a sequence that is laid out as rows of a grid.

    out = MHA over the row of a position + MHA over its column, each with projections of its own

Rows are `width` long; null: twice the least power of two that is sqrt(max_len) or more. What a place in the grid is
follows from `max_len` alone, never from the input. On a square image of max_len pixels the rows are two of its own, so
that its layout is not given away; with `width` its side this would be a model that knows it. Any two positions meet
within two layers. Time O(L (width + max_len / width) D), that is L^1.5; memory O(L D).

Departures from the paper: both sums in one layer, where its layers take turns, and both directions.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import all_real, zeroed
from lra.models.parts.softmax import attend
from lra.models.transformer import FullAttention


class Axial(nn.Module):
    """Full attention along rows and along columns; see the module. Raises ValueError if `width` is below 1."""

    def __init__(
        self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, width: int | None = None
    ) -> None:
        super().__init__()
        if width is not None and width < 1:
            raise ValueError(f"model.mixer.width: {width} is not above 0, or null")
        self.width = width or 2 << math.ceil(math.log2(max_len) / 2)
        self.rows, self.columns = (FullAttention(dim, heads, max_len, qkv_dim) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, dim = x.shape
        width = min(self.width, length)
        missing = -length % width
        x, mask = F.pad(zeroed(x, mask), (0, 0, 0, missing)), F.pad(mask, (0, missing))
        x, mask = x.view(batch, -1, width, dim), mask.view(batch, -1, width)
        rows = self.rows(x.flatten(0, 1), mask.flatten(0, 1)).view(x.shape)
        return (rows + self._along_columns(x, mask)).flatten(1, 2)[:, :length]

    def _along_columns(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, rows, width, D) -> the same. Columns are taken for heads of one attention over the rows, since next to
        each other in memory are the heads of a column and the columns of a row: nothing is copied."""
        layer = self.columns
        q, k, v = (
            project(x).view(*x.shape[:2], -1, layer.head_dim).transpose(1, 2)
            for project in (layer.query, layer.key, layer.value)
        )
        keys = None if all_real(mask) else mask.mT.repeat_interleave(layer.heads, 1).unsqueeze(2)
        y = attend(q, k, v, keys, None).transpose(1, 2)
        return layer.out(y.reshape(*x.shape[:3], -1))
