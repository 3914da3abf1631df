"""Hops: links that lead from one to the next."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError


class Hops(Ability):
    """Where does this name lead, link after link? (Pointer chasing; for Transformers Sanford et al. 2024,
    arXiv 2402.09268, "k-hop induction heads".)

    There are hops + 1 disjoint alphabets of `names`, and a random bijection from each to the next. Every link is one
    symbol, (level, source, target); all of them stand first, shuffled. Then come `queries` queries at uniform places
    among filler, one symbol: a level, uniform over all but the last, and a name of it, uniform. Asked at the query:
    the name of the last alphabet where it leads. Reported by the number of hops.
    """

    standard_len = 32
    ranges: ClassVar = {"hops": (1, 8), "names": (2, 64), "queries": (1, 65536)}

    def __init__(
        self,
        name: str = "hops",
        max_len: int = 32,
        hops: int = 2,
        names: int = 8,
        queries: int = 16,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, {"hops": hops, "names": names, "queries": queries}, **common)
        if hops * names + queries > max_len:
            raise DataError(
                f"task.max_len: {max_len} leaves no room for these links and queries; {hops * names + queries} do"
            )
        self.hops, self.num_classes, self.queries = hops, names, queries
        level = range(hops)
        asks = [f"{k}:{a}?" for k in level for a in range(names)]
        links = [f"{k}:{a}>{b}" for k in level for a in range(names) for b in range(names)]
        self.symbols, self.first_link = ("filler", *asks, *links), 2 + hops * names
        self.kinds = named("hops ", hops + 1)

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        tokens, labels, kinds = blank(len(source), self.max_len, 1)
        m, count = self.num_classes, self.hops * self.num_classes
        ahead = np.stack([source.order(f"level {k}", m) for k in range(self.hops)], axis=1)
        links = self.first_link + np.arange(count) * m + ahead.reshape(-1, count)
        tokens[:, :count] = np.take_along_axis(links, source.order("links", count), 1)
        level = source.below("level", self.queries, self.hops)
        name = source.below("name", self.queries, m)
        places = count + source.places("places", self.queries, self.max_len - count)
        np.put_along_axis(tokens, places, 2 + level * m + name, 1)
        for k in range(self.hops):
            name = np.where(level <= k, np.take_along_axis(ahead[:, k], name, 1), name)
        np.put_along_axis(labels, places, name, 1)
        np.put_along_axis(kinds, places, self.hops - level, 1)
        return Drawn(tokens, labels, kinds)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """From the query alone nothing is known; what the first ones see of the links is measured."""
        return 1 / self.num_classes if reach == 0 else None
