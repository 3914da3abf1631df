"""Compress: a whole sequence in one state."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.ability.rules import Rule, majority
from lra.tasks.base import NOT_ASKED, DataError


class Compress(Ability):
    """What stood everywhere, told from the state at one position? (Poli et al. 2024, arXiv 2403.17844,
    "compression": an auto-encoder whose reader comes last.)

    A reader symbol, at position L // 2 with reader=middle or last with reader=last; all other tokens are uniform over
    `values` symbols, and asked. The model answers out of its state at the reader and a code of the asked position
    alone; in the middle both halves of a mixer that looks both ways work.
    """

    standard_len = 16
    ranges: ClassVar = {"values": (2, 4096), "reader": ("middle", "last")}

    def __init__(
        self, name: str = "compress", max_len: int = 16, values: int = 8, reader: str = "middle", **common: Any
    ) -> None:
        super().__init__(name, max_len, {"values": values, "reader": reader}, **common)
        if max_len < 2:
            raise DataError(f"task.max_len: {max_len} leaves nothing to read; at least 2 is needed")
        self.num_classes, self.answers, self.symbols = values, reader, ("reader", *named("v", values))
        self.place = max_len // 2 if reader == "middle" else max_len - 1

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        drawn = source.below("tokens", self.max_len, self.num_classes)
        tokens, labels, kinds = drawn + 2, drawn.copy(), np.zeros_like(drawn)
        tokens[:, self.place], labels[:, self.place] = 1, NOT_ASKED
        return Drawn(tokens, labels, kinds)

    def in_sight(self, reach: int) -> Rule:
        """What the reader sees itself; of the rest the majority."""

        def rule(train: Items, test: Items) -> np.ndarray:
            out, near = majority(train, test), slice(max(self.place - reach, 0), self.place + reach + 1)
            out[:, near] = test.all.tokens[:, near] - 2
            return out

        return rule

    def floor(self, reach: int, split: str = "test") -> float | None:
        """The reader sees its neighbours."""
        seen = min(reach, self.place) + min(reach, self.max_len - 1 - self.place)
        return (seen + (self.max_len - 1 - seen) / self.num_classes) / (self.max_len - 1)
