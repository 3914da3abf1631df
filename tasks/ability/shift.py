"""Shift: what stood k positions before."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError


class Shift(Ability):
    """What stood `by` positions before? (The copying task of Hochreiter & Schmidhuber 1997 and Arjovsky et al. 2016,
    arXiv 1511.06464, without its blanks: one tap of a convolution.)

    All tokens are uniform over `values` symbols. Asked at every position from `by` on.
    """

    standard_len = 64
    ranges: ClassVar = {"by": (1, 2**20), "values": (2, 4096)}

    def __init__(self, name: str = "shift", max_len: int = 64, by: int = 16, values: int = 8, **common: Any) -> None:
        super().__init__(name, max_len, {"by": by, "values": values}, **common)
        if by >= max_len:
            raise DataError(f"task.by: {by} is not below task.max_len, {max_len}")
        self.by, self.num_classes, self.symbols = by, values, named("v", values)

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        _, labels, kinds = blank(len(source), self.max_len, 0)
        drawn = source.below("tokens", self.max_len, self.num_classes)
        labels[:, self.by :] = drawn[:, : -self.by]
        return Drawn(drawn + 1, labels, kinds)

    def floor(self, reach: int, split: str = "test") -> float | None:
        return 1.0 if reach >= self.by else 1 / self.num_classes
