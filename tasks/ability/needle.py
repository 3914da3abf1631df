"""Needle: one symbol to be found in filler and kept to the end."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.ability.rules import Rule, majority
from lra.tasks.base import DataError


class Needle(Ability):
    """Which needle stood anywhere before? (Long-context retrieval as in Kamradt 2023, "needle in a haystack", in its
    smallest form.)

    One of `needles` symbols stands at a uniform place before the last; all else is filler, uniform over `filler`
    other symbols. Asked at the last position. With `profile`, asked also at one position in every octave of distance
    [2^k, 2^(k+1)) to the right of the needle that begins within the length: at the distance floor(2^(k+u)), u
    uniform, and not at all where that is beyond the end. Reported by octave of distance from the needle.
    """

    standard_len = 128
    ranges: ClassVar = {"needles": (2, 1024), "filler": (1, 1024), "profile": (False, True)}

    def __init__(
        self,
        name: str = "needle",
        max_len: int = 128,
        needles: int = 16,
        filler: int = 16,
        profile: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, {"needles": needles, "filler": filler, "profile": profile}, **common)
        if max_len < 2:
            raise DataError(f"task.max_len: {max_len} leaves no room for a needle; at least 2 is needed")
        self.num_classes, self.filler, self.profile = needles, filler, profile
        self.symbols = named("needle", needles) + named("filler", filler)
        self.octaves = (max_len - 1).bit_length()
        self.kinds = tuple(f"distance {1 << k}" for k in range(self.octaves))

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        n, length = len(source), self.max_len
        _, labels, kinds = blank(n, length, 0)
        tokens = 1 + self.num_classes + source.below("filler", length, self.filler)
        at, which = source.below("place", 1, length - 1)[:, 0], source.below("needle", 1, self.num_classes)[:, 0]
        rows = np.arange(n)
        tokens[rows, at] = 1 + which
        distance = np.arange(length) - at[:, None]
        kinds[:] = np.frexp(distance.clip(min=1))[1] - 1
        labels[:, -1] = which
        if self.profile:
            k = np.arange(self.octaves)
            u = (source.bits("distance", self.octaves) >> np.uint64(11)) * 2.0**-53
            asked = at[:, None] + np.floor(2.0 ** (k + u)).astype(np.int64)
            row, octave = np.nonzero(asked < length)
            labels[row, asked[row, octave]] = which[row]
        return Drawn(tokens, labels, kinds)

    def in_sight(self, reach: int) -> Rule:
        """The needle where it is in sight; else the majority."""

        def rule(train: Items, test: Items) -> np.ndarray:
            out, tokens = majority(train, test), test.all.tokens
            rows, at = np.nonzero(tokens <= self.num_classes)
            for i in range(min(reach, self.max_len - 1) + 1):
                there = at + i < self.max_len
                out[rows[there], at[there] + i] = tokens[rows, at][there] - 1
            return out

        return rule

    def floor(self, reach: int, split: str = "test") -> float | None:
        """A needle within reach is known, of others nothing is."""
        distance = np.arange(1, self.max_len)
        asked = np.ones(self.max_len - 1)  # at the end, at each distance as often
        if self.profile:  # and before the end, at this distance for so many places of the needle
            asked += np.log2(1 + 1 / distance) * (self.max_len - 1 - distance)
        known = asked[:reach].sum() / asked.sum()
        return float(known + (1 - known) / self.num_classes)
