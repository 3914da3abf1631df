"""Select: marked tokens among blanks, to be said in order."""

from __future__ import annotations

from math import comb
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError

BLANK, ASK, FIRST = 1, 2, 3  # tokens


class Select(Ability):
    """Which were the tokens among the blanks, in order? (Selective copying: Gu & Dao 2023, arXiv 2312.00752, after
    Jing et al. 2019; Poli et al. 2024, arXiv 2403.17844. Without blanks, copying: Jelassi et al. 2024,
    arXiv 2402.01032.)

    The last `marked` positions hold an ask symbol each, all the same: the j-th asks for the j-th marked token. Before
    them stand the marked tokens, uniform over `values` symbols, and blanks. placement=uniform: at uniform places.
    placement=mad: every blank goes before a marked token drawn uniformly, so that the last blank is followed by one,
    and places spread little. With max_len = 2 marked there are no blanks.
    """

    standard_len = 64
    ranges: ClassVar = {"marked": (1, 65536), "values": (2, 4096), "placement": ("uniform", "mad")}

    def __init__(
        self,
        name: str = "select",
        max_len: int = 64,
        marked: int = 8,
        values: int = 8,
        placement: str = "uniform",
        **common: Any,
    ) -> None:
        options = {"marked": marked, "values": values, "placement": placement}
        super().__init__(name, max_len, options, **common)
        if 2 * marked > max_len:
            raise DataError(f"task.marked: {marked} is not at most half of task.max_len, {max_len}")
        self.marked, self.num_classes, self.placement = marked, values, placement
        self.symbols, self.body = ("blank", "ask", *named("v", values)), max_len - marked

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        tokens, labels, kinds = blank(len(source), self.max_len, BLANK)
        values = source.below("values", self.marked, self.num_classes)
        np.put_along_axis(tokens, self.places(source), FIRST + values, 1)
        tokens[:, self.body :], labels[:, self.body :] = ASK, values
        return Drawn(tokens, labels, kinds)

    def places(self, source: Source) -> np.ndarray:
        """Of the marked tokens, ascending, (n, marked)."""
        if self.placement == "uniform":
            return source.places("places", self.marked, self.body)
        before = source.below("before", self.body - self.marked, self.marked)
        shifted = before + self.marked * np.arange(len(source))[:, None]
        blanks = np.bincount(shifted.ravel(), minlength=len(source) * self.marked).reshape(-1, self.marked)
        return np.cumsum(blanks, axis=1) + np.arange(self.marked)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Ask j sees the last reach - j positions before the asks; it knows its token if that and all later ones
        stand there."""
        if self.marked > reach:
            return 1 / self.num_classes
        if self.placement == "mad":
            return None
        known = 0.0
        for j in range(self.marked):
            seen = max(min(reach - j, self.body), 0)
            ways = sum(
                comb(seen, c) * comb(self.body - seen, self.marked - c) for c in range(self.marked - j, self.marked + 1)
            )
            known += ways / comb(self.body, self.marked) / self.marked
        return known + (1 - known) / self.num_classes
