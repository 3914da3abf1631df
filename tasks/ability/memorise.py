"""Memorise: a map that no sequence shows, to be kept in the weights."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source, keys
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError

ASK, FIRST = 1, 2  # tokens


class Memorise(Ability):
    """What does this symbol stand for? (Poli et al. 2024, arXiv 2403.17844, "memorization".)

    A map from `facts` symbols to `values` classes, each uniform, is drawn from the seed once for all items. Tokens
    are a symbol, uniform, and an ask symbol in turn; asked at the ask: the class of the symbol before. It takes one
    step to the left and no range, and says how much the weights hold: an exam for comparison with MAD only.
    """

    standard_len = 32
    ranges: ClassVar = {"facts": (2, 2**20), "values": (2, 65536)}

    def __init__(
        self, name: str = "memorise", max_len: int = 32, facts: int = 128, values: int = 128, **common: Any
    ) -> None:
        super().__init__(name, max_len, {"facts": facts, "values": values}, **common)
        if max_len < 2:
            raise DataError(f"task.max_len: {max_len} leaves no room to ask; at least 2 is needed")
        self.facts, self.num_classes = facts, values
        self.symbols = ("ask", *named("k", facts))
        one = Source(keys(self.seed * 4 + 3, np.zeros(1, np.int64)))
        self.map = one.below("map", facts, values)[0]

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        tokens, labels, kinds = blank(len(source), self.max_len, ASK)
        drawn = source.below("tokens", -(-self.max_len // 2), self.facts)
        tokens[:, ::2] = FIRST + drawn
        labels[:, 1::2] = self.map[drawn[:, : self.max_len // 2]]
        return Drawn(tokens, labels, kinds)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Without its neighbour the likeliest class of the map."""
        return 1.0 if reach else float(np.bincount(self.map).max() / self.facts)
