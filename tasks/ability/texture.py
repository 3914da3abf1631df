"""Texture: the tile that a coarse picture was made from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.base import NOT_ASKED, DataError, Split


class Texture(Ability):
    """What are the fine pixels of the tile that is shown coarsely? (Ours: a search by content over two dimensions.)

    `tiles` tiles of side x side pixels, uniform over `grey` levels, one after the other, row by row. Then the coarse
    copy of one of them, of the same size: each pixel is the mean of its 2 x 2 block, rounded, halves up, in symbols
    of its own. Asked at each pixel of the copy: the pixel of the tile. The ceiling, which is measured, is below 1 where
    two tiles have the same copy.
    """

    standard_len = 80
    ranges: ClassVar = {"tiles": (1, 256), "side": (2, 64), "grey": (2, 256)}

    def __init__(
        self, name: str = "texture", max_len: int = 80, tiles: int = 4, side: int = 4, grey: int = 4, **common: Any
    ) -> None:
        super().__init__(name, max_len, {"tiles": tiles, "side": side, "grey": grey}, **common)
        if side % 2:
            raise DataError(f"task.side: {side} is not even")
        if max_len != (tiles + 1) * side * side:
            raise DataError(
                f"task.max_len: {max_len} is not the length of {tiles} tiles and a copy, {(tiles + 1) * side * side}"
            )
        self.tiles, self.side, self.num_classes = tiles, side, grey
        self.symbols = named("pixel", grey) + named("coarse", grey)

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        n, area = len(source), self.side**2
        _, labels, kinds = blank(n, self.max_len, 0)
        pixels = source.below("pixels", self.tiles * area, self.num_classes).reshape(n, self.tiles, area)
        chosen = pixels[np.arange(n), source.below("tile", 1, self.tiles)[:, 0]]
        copy = coarse(chosen, self.side)
        labels[:, -area:] = chosen
        tokens = np.concatenate((1 + pixels.reshape(n, -1), 1 + self.num_classes + copy), axis=1)
        return Drawn(tokens, labels, kinds)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """From the coarse pixel alone: of four pixels with that mean, the likeliest value of one. With a side of four
        its neighbours within 2 tell no more."""
        if reach > (2 if self.side > 2 else 0) or self.num_classes > 16:
            return None
        ways = np.zeros((self.num_classes, self.num_classes), int)
        sums = np.bincount([sum(p) for p in product(range(self.num_classes), repeat=3)])
        for rest, count in enumerate(sums):
            for pixel in range(self.num_classes):
                ways[(rest + pixel + 2) // 4, pixel] += count
        return float(ways.max(1).sum() / ways.sum())

    ceiling_rule = "matching_tiles"

    def ceiling(self) -> float | None:
        return 1.0 if self.tiles == 1 else None

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return super().rules() | {"matching_tiles": self.matching_tiles}

    def matching_tiles(self, train: Items, test: Items) -> np.ndarray:
        """The ceiling: of all tiles whose coarse copy is the one shown, the value that most have, the least of
        equals."""
        tokens, area = test.all.tokens, self.side**2
        pixels = tokens[:, :-area].reshape(len(tokens), self.tiles, area) - 1
        shown = tokens[:, -area:] - 1 - self.num_classes
        same = (coarse(pixels, self.side) == shown[:, None]).all(2)
        votes = [(same[:, :, None] & (pixels == g)).sum(1) for g in range(self.num_classes)]
        out = np.full(tokens.shape, NOT_ASKED)
        out[:, -area:] = np.argmax(votes, axis=0)
        return out


def coarse(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels (..., side^2), each the rounded mean of its 2 x 2 block."""
    half = side // 2
    blocks = pixels.reshape(*pixels.shape[:-1], half, 2, half, 2)
    means = (blocks.sum((-3, -1), keepdims=True) + 2) // 4
    return np.broadcast_to(means, blocks.shape).reshape(pixels.shape)
