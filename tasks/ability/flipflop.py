"""Flip-flop: one bit, written now and then, kept through all that is to be ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn
from lra.tasks.base import DataError

WRITE, IGNORE, READ = 1, 3, 5  # tokens: write 0, write 1, ignore 0, ignore 1, read


class FlipFlop(Ability):
    """Which bit was written last? (Liu et al. 2023, arXiv 2306.00946: FFL(p), there causal, an instruction and a bit
    being two tokens.)

    The first symbol writes, the last reads; in between a symbol ignores with probability `ignore`, writes or reads
    with (1 - ignore) / 2 each. Bits are fair coins; a read shows none. Asked at reads. Item i of test ignores with
    probability tested[i mod their number], valid and train with `ignore`; reported by that probability. The score is
    over all answers, of which there are more the less is ignored.
    """

    standard_len = 64
    ranges: ClassVar = {"ignore": (0.0, 0.999), "tested": (0.0, 0.999)}

    def __init__(
        self,
        name: str = "flipflop",
        max_len: int = 64,
        ignore: float = 0.8,
        tested: Sequence[float] = (0.8, 0.98, 0.1),
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, {"ignore": ignore, "tested": tested}, **common)
        if not isinstance(tested, (list, tuple)) or not tested:
            raise DataError(f"task.tested: {tested!r} names no probability")
        if max_len < 2:
            raise DataError(f"task.max_len: {max_len} leaves no room to write and to read; at least 2 is needed")
        self.ignore, self.tested, self.num_classes = ignore, tuple(tested), 2
        self.symbols = ("write 0", "write 1", "ignore 0", "ignore 1", "read")
        self.kinds = tuple(dict.fromkeys(f"ignore {p}" for p in (ignore, *self.tested)))

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        _, labels, kinds = blank(len(source), self.max_len, READ)
        shares = np.array(self.tested)[indices % len(self.tested)] if split == "test" else [self.ignore]
        shares = np.broadcast_to(np.asarray(shares)[:, None], (len(source), 1))
        bits = source.below("bits", self.max_len, 2)
        ignores = source.happens("ignore", self.max_len, shares)
        writes = ~ignores & source.happens("write", self.max_len, 0.5)
        ignores[:, [0, -1]], writes[:, 0], writes[:, -1] = False, True, False
        tokens = np.where(writes, WRITE + bits, np.where(ignores, IGNORE + bits, READ))
        last = np.maximum.accumulate(np.where(writes, np.arange(self.max_len), 0), axis=1)
        reads = tokens == READ
        labels[reads] = np.take_along_axis(bits, last, 1)[reads]
        names = {p: self.kinds.index(f"ignore {p}") for p in (self.ignore, *self.tested)}
        kinds[:] = np.vectorize(names.get)(shares)
        return Drawn(tokens, labels, kinds)

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Known is a bit that was written within reach; by shares of reads over the test set."""
        right = asked = 0.0
        for p in self.tested if split == "test" else (self.ignore,):
            at = np.arange(1, self.max_len)
            reads = np.where(at == self.max_len - 1, 1.0, (1 - p) / 2)
            known = np.where(at <= reach, 1.0, 1 - ((1 + p) / 2) ** reach)
            right, asked = right + (reads * (known + (1 - known) / 2)).sum(), asked + reads.sum()
        return float(right / asked)
