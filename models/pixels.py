"""Pixels to logits: the body of the references that know an image's rows and columns, which no sequence model does.

They sit the same exam on the same tokens, `forward(tokens, mask)`, and lay them out by `grid`, which a model is handed
where its YAML says `about.uses_2d: true` and the task is of images. Tables keep such rows in a section of their own, in
no rank with the others. Embedding, stack and pooling of `models.classifier` are an encoder's own here, because 64
patches are no 1,024 tokens; what is common to all is the image that it is given and the head.

An encoder is a factory that names what it needs of grid, depth, dim, heads, qkv_dim, mlp_dim, dropout,
attention_dropout, pooling and checkpoint, says its `width` W, and maps (B, 1, rows, columns) -> (B, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.factory import accepted, build, name_of


class PixelClassifier(nn.Module):
    """forward: tokens int64 (B, L), mask bool (B, L) -> logits (B, C).

    Token i + 1 is intensity i, taken for (i / 255 - mean) / deviation, `pixels`. Images have no padding; where the mask
    hides a pixel, or the input ends before the image does, there is the mean, whatever stands there.

    Raises ValueError for a task without a `grid`, of pairs or with answers at positions, for positions or a pooling
    that the encoder has not, and, in `forward`, for more pixels than the image has.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        max_len: int,
        stack: Callable[..., nn.Module],
        depth: int,
        dim: int,
        heads: int,
        mlp_dim: int,
        qkv_dim: int | None = None,
        grid: Sequence[int] | None = None,
        documents: int = 1,
        answers: str = "sequence",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        position: str = "none",
        pooling: str = "mean",
        embedding_std: float = 1.0,  # of words, which an image has none of
        checkpoint: bool = False,
        pixels: Sequence[float] | None = (0.5, 0.25),
    ) -> None:
        super().__init__()
        if grid is None or documents != 1 or answers != "sequence":
            raise ValueError(f"model: {name_of(stack)} reads the rows and columns of an image, which this task has not")
        if position != "none":
            raise ValueError(f"model.position: {position!r} is of tokens in a line; an image's encoder takes none")
        if pooling != "mean" and "pooling" not in (accepted(stack) or ()):
            raise ValueError(f"model.pooling: {pooling!r} is not mean, as which {name_of(stack)} is read out")
        if pixels is None or len(pixels) != 2 or pixels[1] <= 0:
            raise ValueError(f"model.pixels: {pixels} is not a mean and a deviation above 0")
        self.rows, self.columns = grid
        self.mean, self.deviation = pixels
        self.encoder = build(
            stack,
            grid=(self.rows, self.columns),
            depth=depth,
            dim=dim,
            heads=heads,
            qkv_dim=qkv_dim or dim,
            mlp_dim=mlp_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            pooling=pooling,
            checkpoint=checkpoint,
        )
        self.head = nn.Sequential(nn.Linear(self.encoder.width, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, num_classes))

    def image(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, 1, rows, columns)."""
        missing = self.rows * self.columns - tokens.shape[1]
        if missing < 0:
            raise ValueError(f"length {tokens.shape[1]} is above the {self.rows * self.columns} pixels of an image")
        number = ((tokens - 1).to(self.head[0].weight.dtype) / 255 - self.mean) / self.deviation
        number = number.masked_fill(~mask, 0)
        return F.pad(number, (0, missing)).view(-1, 1, self.rows, self.columns)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder(self.image(tokens, mask)))


def tokens_of(x: Tensor) -> Tensor:
    """(B, D, rows, columns) -> (B, rows x columns, D)."""
    return x.flatten(2).mT


def grid_of(x: Tensor, columns: int) -> Tensor:
    """(B, rows x columns, D) -> (B, D, rows, columns)."""
    return x.mT.unflatten(2, (-1, columns))


def divided(grid: Sequence[int], by: int, field: str) -> tuple[int, int]:
    """Rows and columns of pieces of by x by; ValueError where they do not fit."""
    if by < 1 or any(side % by for side in grid):
        raise ValueError(f"{field}: {by} does not divide the {grid[0]} x {grid[1]} pixels")
    return grid[0] // by, grid[1] // by
