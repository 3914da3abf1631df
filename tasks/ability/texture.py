"""Texture: the tile that a coarse picture was made from."""

from __future__ import annotations

import math
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

    def of_answers(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        """Peak signal to noise in dB, 10 log10((grey - 1)^2 / mean squared error); null where there is no error."""
        error = float(np.square(predictions.astype(float) - labels).mean())
        return {"psnr": 10 * math.log10((self.num_classes - 1) ** 2 / error) if error else None}

    ceiling_rule = "matching_tiles"

    def ceiling(self) -> float | None:
        return 1.0 if self.tiles == 1 else None

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        own = {"nearest": self.nearest, "mean": self.mean, "best_2x2": self.best_2x2}
        return super().rules() | own | {"matching_tiles": self.matching_tiles}

    def shown(self, test: Items) -> tuple[np.ndarray, np.ndarray]:
        """The fine pixels of all tiles (N, tiles, area), and the coarse ones that are shown (N, area)."""
        tokens, area = test.all.tokens, self.side**2
        return tokens[:, :-area].reshape(len(tokens), self.tiles, area) - 1, tokens[:, -area:] - 1 - self.num_classes

    def answered(self, test: Items, pixels: np.ndarray) -> np.ndarray:
        """Answers (N, L) of which those that are asked for are pixels (N, area)."""
        out = np.full(test.all.tokens.shape, NOT_ASKED)
        out[:, -(self.side**2) :] = pixels
        return out

    def nearest(self, train: Items, test: Items) -> np.ndarray:
        """The coarse pixel itself."""
        return self.answered(test, self.shown(test)[1])

    def mean(self, train: Items, test: Items) -> np.ndarray:
        """The mean of all fine pixels, rounded, halves up."""
        pixels = self.shown(test)[0]
        return self.answered(test, np.floor(pixels.mean((1, 2), keepdims=True)[:, 0] + 0.5).astype(int))

    def best_2x2(self, train: Items, test: Items) -> np.ndarray:
        """Block by block, the first 2 x 2 block of any tile whose coarse pixel is nearest to the one shown: what a
        match of the smallest patches gives, which looks at no neighbour."""
        pixels, shown = self.shown(test)
        blocks = blocks_of(pixels, self.side).reshape(len(pixels), -1, 4)  # (N, tiles x area / 4, 4)
        wanted = blocks_of(shown, self.side)[..., 0]  # (N, area / 4)
        means = (blocks.sum(2) + 2) // 4
        first = np.abs(means[:, None] - wanted[..., None]).argmin(2)
        half = self.side // 2
        copied = np.take_along_axis(blocks, first[..., None], 1).reshape(-1, half, half, 2, 2)
        return self.answered(test, copied.swapaxes(2, 3).reshape(len(pixels), -1))

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


def blocks_of(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels (..., side^2) -> (..., side^2 / 4, 4), its 2 x 2 blocks."""
    half = side // 2
    blocks = pixels.reshape(*pixels.shape[:-1], half, 2, half, 2).swapaxes(-3, -2)
    return blocks.reshape(*pixels.shape[:-1], half * half, 4)


def coarse(pixels: np.ndarray, side: int) -> np.ndarray:
    """Pixels (..., side^2), each the rounded mean of its 2 x 2 block."""
    half = side // 2
    blocks = pixels.reshape(*pixels.shape[:-1], half, 2, half, 2)
    means = (blocks.sum((-3, -1), keepdims=True) + 2) // 4
    return np.broadcast_to(means, blocks.shape).reshape(pixels.shape)
