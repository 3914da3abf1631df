"""Swin (Liu et al. 2021, arXiv 2103.14030): attention within windows of patches, shifted in every second layer.

    softmax(Q K^T / sqrt(E) + b) V within a window of w x w patches, b learned by offset (section 3.2)

Every second layer moves the windows by half of one, which cuts those at the border. Between two stages neighbours of
2 x 2 become one. Where a stage has but one window, nothing is shifted. Of n patches, time O(n w^2 D), memory O(n D).

Departures: all stages are D wide, where the paper doubles it; a stage has `depth` layers, made even; two stages,
because the images are small.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead
from lra.models.parts.layers import through
from lra.models.pixels import divided, grid_of, tokens_of
from lra.models.stack import Layer


class Windows(MultiHead):
    """Attention within windows of `window` x `window`, which begin `shift` patches further in: (B, n, D), mask as of
    any mixer, all True -> (B, n, D)."""

    def __init__(
        self, dim: int, heads: int, grid: tuple[int, int], window: int, shift: int, qkv_dim: int | None = None
    ) -> None:
        super().__init__(dim, heads, grid[0] * grid[1], qkv_dim)
        self.grid, self.window, self.shift = grid, window, shift
        self.bias = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place + window - 1  # (w^2, w^2, 2)
        self.register_buffer("offset", offset[..., 0] * (2 * window - 1) + offset[..., 1], persistent=False)
        # Moved to the front, the windows hold what came round the border; that is not their own.
        sides = [(torch.arange(side) >= side - shift).long() for side in grid]
        region = self.cut((2 * sides[0][:, None] + sides[1]).view(1, -1, 1))[0, ..., 0]  # (windows, w^2)
        alike = region[:, None] == region[..., None]
        self.register_buffer("alike", alike if shift else None, persistent=False)

    def cut(self, x: Tensor) -> Tensor:
        """(B, n, D) -> (B, windows, w^2, D)."""
        rows, columns = (side // self.window for side in self.grid)
        x = x.view(len(x), rows, self.window, columns, self.window, -1)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def joined(self, x: Tensor) -> Tensor:
        """What `cut` took apart."""
        rows, columns = (side // self.window for side in self.grid)
        x = x.view(len(x), rows, columns, self.window, self.window, -1)
        return x.transpose(2, 3).flatten(1, 4)

    def moved(self, x: Tensor, by: int) -> Tensor:
        if not self.shift:
            return x
        return x.unflatten(1, self.grid).roll((by, by), (1, 2)).flatten(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.cut(self.moved(x, -self.shift))
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, self.head_dim)).transpose(2, 3)
            for layer in (self.query, self.key, self.value)
        )  # (B, windows, H, w^2, E)
        bias = self.bias[self.offset].permute(2, 0, 1)
        if self.alike is not None:
            bias = bias.masked_fill(~self.alike.unsqueeze(1), -torch.inf)
        y = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype))
        return self.moved(self.joined(self.out(y.transpose(2, 3).flatten(3))), self.shift)


class Merge(nn.Module):
    """2 x 2 neighbours side by side, a norm, W of 4 D x D (section 3.1): (B, n, D) -> (B, n / 4, D)."""

    def __init__(self, dim: int, columns: int) -> None:
        super().__init__()
        self.columns, self.norm, self.reduce = columns, nn.LayerNorm(4 * dim), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(self.norm(tokens_of(F.pixel_unshuffle(grid_of(x, self.columns), 2))))


class Swin(nn.Module):
    """(B, 1, rows, columns) -> (B, D), the mean of the last stage's patches. Raises ValueError for a patch or a window
    that does not fit into the grid."""

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
        patch: int = 2,
        window: int = 4,
        stages: int = 2,
    ) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError(f"model.stack.stages: {stages} is not 1 or more")
        divided(grid, patch << stages - 1, "model.stack.patch, halved between stages")
        side = divided(grid, patch, "model.stack.patch")
        self.width, self.checkpoint = dim, checkpoint
        self.stem, self.stem_norm = nn.Conv2d(1, dim, patch, patch), nn.LayerNorm(dim)
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for stage in range(stages):
            size = min(window, *side)
            if size < 1 or any(each % size for each in side):
                raise ValueError(f"model.stack.window: {window} does not divide the {side[0]} x {side[1]} patches")
            half = 0 if side == (size, size) else size // 2
            self.stages.append(
                nn.ModuleList(
                    Layer(Windows(dim, heads, side, size, half * (i % 2), qkv_dim), dim, mlp_dim, dropout)
                    for i in range(depth + depth % 2)
                )
            )
            if stage + 1 < stages:
                self.merges.append(Merge(dim, side[1]))
                side = side[0] // 2, side[1] // 2
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem_norm(tokens_of(self.stem(image)))
        for i, layers in enumerate(self.stages):
            x = x if i == 0 else self.merges[i - 1](x)
            x = through(layers, x, x.new_ones(x.shape[:2], dtype=torch.bool), self.checkpoint and self.training)
        return self.norm(x).mean(1)
