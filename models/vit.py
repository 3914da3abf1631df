"""ViT (Dosovitskiy et al. 2021, arXiv 2010.11929): the encoder of `transformer` over square patches of an image.

    x_i = W vec(patch_i) + e_i, a learned vector in front of them ("cls"), pre-norm layers, a last norm

stem "conv" is its hybrid form: a few strided 3 x 3 convolutions in the place of W (Xiao et al. 2021, arXiv 2106.14881).
positions "conditional" (Chu et al. 2021, arXiv 2102.10882) have, in the place of e, a depthwise 3 x 3 convolution over
the grid of patches, added behind the first layer, which leaves the vector in front alone. Of n patches, time O(n^2 D)
and memory O(n D), n = L / patch^2.

Departures: group norms of one group between the strided convolutions, where the paper has batch norms, by which
examples would see each other; pooling "mean" takes the mean of the patches, as later papers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lra.models.parts.layers import through
from lra.models.pixels import divided, grid_of, tokens_of
from lra.models.stack import Layer
from lra.models.transformer import FullAttention

STEMS = ("patch", "conv")
POSITIONS = ("learned", "conditional")
POOLINGS = ("cls", "mean")


class ViT(nn.Module):
    """(B, 1, rows, columns) -> (B, D). Raises ValueError for a patch that does not divide both sides, or with
    stem="conv" is no power of two, and for words that are none of the above."""

    def __init__(
        self,
        grid: Sequence[int],
        depth: int,
        dim: int,
        heads: int,
        mlp_dim: int,
        qkv_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        pooling: str = "cls",
        checkpoint: bool = False,
        patch: int = 4,
        stem: str = "patch",
        positions: str = "learned",
    ) -> None:
        super().__init__()
        for field, value, allowed in (
            ("stack.stem", stem, STEMS), ("stack.positions", positions, POSITIONS), ("pooling", pooling, POOLINGS)
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"model.{field}: {value!r} is not one of {', '.join(allowed)}")
        rows, self.columns = divided(grid, patch, "model.stack.patch")
        self.width, self.checkpoint = dim, checkpoint
        self.stem = nn.Conv2d(1, dim, patch, patch) if stem == "patch" else strided(dim, patch)
        count = rows * self.columns + (pooling == "cls")
        self.cls = nn.Parameter(torch.zeros(dim)) if pooling == "cls" else None
        self.positions = nn.Parameter(torch.randn(count, dim) * 0.02) if positions == "learned" else None
        self.conditional = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if positions == "conditional" else None
        self.layers = nn.ModuleList(
            Layer(FullAttention(dim, heads, count, qkv_dim, attention_dropout), dim, mlp_dim, dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        x = tokens_of(self.stem(image))
        if self.cls is not None:
            x = torch.cat((self.cls.to(x.dtype).expand(len(x), 1, -1), x), 1)
        if self.positions is not None:
            x = x + self.positions.to(x.dtype)
        mask, again = x.new_ones(x.shape[:2], dtype=torch.bool), self.checkpoint and self.training
        first = 0 if self.conditional is None else 1
        if first:
            x = through(self.layers[:1], x, mask, again)
            ahead = int(self.cls is not None)
            front, patches = x[:, :ahead], x[:, ahead:]
            x = torch.cat((front, patches + tokens_of(self.conditional(grid_of(patches, self.columns)))), 1)
        x = self.norm(through(self.layers[first:], x, mask, again))
        return x.mean(1) if self.cls is None else x[:, 0]


def strided(dim: int, patch: int) -> nn.Sequential:
    """Convolutions that halve the grid until it is that of the patches, and a last one of 1 x 1."""
    halvings = patch.bit_length() - 1
    if patch != 1 << halvings or patch < 2:
        raise ValueError(f"model.stack.patch: {patch} is not 2, 4, 8, ..., which halvings of stem=conv lead to")
    widths = [1, *(max(1, dim >> i) for i in reversed(range(halvings)))]
    made: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        made += [nn.Conv2d(narrow, wide, 3, 2, 1), nn.GroupNorm(1, wide), nn.ReLU()]
    return nn.Sequential(*made, nn.Conv2d(dim, dim, 1))
