"""Axial attention over the rows and columns of an image itself (Ho et al. 2019, arXiv 1912.12180).

`models.axial` with rows as long as the image's: every pixel attends to its row and to its column. A pixel's position is
a learned vector of its row and one of its column, added (section 3.3 there). Time O(L^1.5 D), memory O(L D).

Departures: those of `models.axial`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lra.models.axial import Axial
from lra.models.parts.factory import build
from lra.models.pixels import tokens_of
from lra.models.stack import ResidualStack


class AxialImage(nn.Module):
    """(B, 1, rows, columns) -> (B, D), the mean over pixels."""

    def __init__(
        self,
        grid: Sequence[int],
        depth: int,
        dim: int,
        heads: int,
        mlp_dim: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        rows, columns = grid
        self.width = dim
        self.pixel = nn.Conv2d(1, dim, 1)
        self.row, self.column = (nn.Parameter(torch.randn(side, dim) * 0.02) for side in grid)
        facts = {"dim": dim, "heads": heads, "qkv_dim": qkv_dim, "max_len": rows * columns, "width": columns}
        self.layers = ResidualStack(partial(build, Axial, **facts), depth, dim, mlp_dim, dropout, checkpoint)

    def forward(self, image: Tensor) -> Tensor:
        x = tokens_of(self.pixel(image)) + (self.row[:, None] + self.column).flatten(0, 1)
        return self.layers(x, x.new_ones(x.shape[:2], dtype=torch.bool)).mean(1)
