"""Brackets: which kind does this one close?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError

APART = 4  # a closer this near to its opener is not asked


class Brackets(Ability):
    """Of which type is the opener that this closes? (Dyck languages of bounded depth: Hewitt et al. 2020,
    arXiv 2010.07515; Yao et al. 2021, arXiv 2105.11115.)

    A walk of an even number of steps from depth 0 back to it. At depth 0 it opens; at depth `depth`, or where all
    steps that are left are needed to come back, it closes; else a fair coin says. Openers are uniform over `types`;
    there is one closer. Asked at closers more than 4 positions behind their opener. Reported by octave of that
    distance.
    """

    standard_len = 64
    ranges: ClassVar = {"depth": (2, 256), "types": (2, 256)}

    def __init__(
        self, name: str = "brackets", max_len: int = 64, depth: int = 8, types: int = 8, **common: Any
    ) -> None:
        super().__init__(name, max_len, {"depth": depth, "types": types}, **common)
        if max_len % 2 or max_len < APART + 2:
            raise DataError(f"task.max_len: {max_len} is not an even number of at least {APART + 2}")
        self.depth, self.num_classes = depth, types
        self.symbols = ("close", *named("open", types))
        self.kinds = tuple(f"distance {1 << k}" for k in range(max_len.bit_length()))

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        _, labels, kinds = blank(len(source), self.max_len, 0)
        types = source.below("types", self.max_len, self.num_classes)
        opener = self.openers(source.happens("coin", self.max_len, 0.5))
        distance = np.arange(self.max_len) - opener
        tokens = np.where(distance == 0, 2 + types, 1)
        asked = distance > APART
        labels[asked] = np.take_along_axis(types, opener, 1)[asked]
        kinds[:] = np.frexp(distance.clip(min=1))[1] - 1
        return Drawn(tokens, labels, kinds)

    def openers(self, coins: np.ndarray) -> np.ndarray:
        """The position of the opener that belongs to each position, its own if it opens; coins (n, L): True opens."""
        rows, length = np.arange(len(coins)), self.max_len
        depth, out = np.zeros(len(coins), np.int64), np.empty((length, len(coins)), np.int64)
        begun = np.zeros((len(coins), self.depth), np.int64)  # of the brackets that are open, by depth
        for t, coin in enumerate(coins.T):
            opens = ((depth == 0) | coin) & (depth < self.depth) & (depth < length - t)
            level = depth - ~opens
            out[t] = np.where(opens, t, begun[rows, level])
            begun[rows, level] = out[t]
            depth = level + opens
        return out.T

    def floor(self, reach: int, split: str = "test") -> float | None:
        """The opener is out of sight, and no other token knows its type."""
        return 1 / self.num_classes if reach <= APART else None
