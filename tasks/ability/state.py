"""State: the running product of a group, and the majority as its control."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from math import comb
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.base import Ability, blank, named
from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import Drawn, Items
from lra.tasks.ability.rules import FIT, looked_up
from lra.tasks.base import NOT_ASKED, DataError, Split

CYCLIC = {"parity": 2, "z3": 3, "z60": 60}
PERMUTED = {"s3": 3, "a5": 5, "s5": 5}
GROUPS = (*CYCLIC, *PERMUTED)


def table(group: str) -> np.ndarray:
    """(|G|, |G|): the product of a and b at [a, b]. Elements of a cyclic group are added; those of the others are
    permutations in lexicographic order, the identity first, and a b does a first: (a b)(i) = b(a(i))."""
    if group in CYCLIC:
        order = np.arange(CYCLIC[group])
        return (order[:, None] + order) % len(order)
    size = PERMUTED[group]
    elements = [p for p in permutations(range(size)) if group[0] == "s" or even(p)]
    number = {p: i for i, p in enumerate(elements)}
    return np.array([[number[tuple(b[i] for i in a)] for b in elements] for a in elements])


def even(p: tuple[int, ...]) -> bool:
    return sum(p[i] > p[j] for j in range(len(p)) for i in range(j)) % 2 == 0


class State(Ability):
    """What is the product of all that came so far? (Word problems of groups: Barrington 1989; Merrill et al. 2024,
    arXiv 2404.08819, Grazzi et al. 2024, arXiv 2411.12537.)

    Tokens are uniform over the elements of `group`; asked is the product of all tokens up to and with this one.
    group=majority, the control that needs a prefix and no group: tokens are fair bits; asked is whether there were
    more ones than zeros so far (as many: no).

    Train asks everywhere. Valid and test ask from position floor(asked_from x max_len) on: the beginning can be had
    by looking at a few tokens. Reported by octave of the number of tokens so far.
    """

    standard_len = 64
    ranges: ClassVar = {"group": (*GROUPS, "majority"), "asked_from": (0.0, 1.0)}

    def __init__(
        self, name: str = "state", max_len: int = 64, group: str = "parity", asked_from: float = 0.5, **common: Any
    ) -> None:
        super().__init__(name, max_len, {"group": group, "asked_from": asked_from}, **common)
        if asked_from == 1:
            raise DataError(f"task.asked_from: {asked_from} asks nothing; it has to be below 1")
        self.group, self.first = group, int(asked_from * max_len)
        self.table = None if group == "majority" else table(group)
        self.num_classes = 2 if self.table is None else len(self.table)
        self.symbols = named("g", self.num_classes)
        self.kinds = tuple(f"tokens {1 << k}" for k in range(max_len.bit_length()))

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        _, labels, kinds = blank(len(source), self.max_len, 0)
        drawn = source.below("tokens", self.max_len, self.num_classes)
        first = 0 if split == "train" else self.first
        labels[:, first:] = self.states(drawn)[:, first:]
        kinds[:] = np.frexp(1 + np.arange(self.max_len))[1] - 1
        return Drawn(drawn + 1, labels, kinds)

    def states(self, drawn: np.ndarray) -> np.ndarray:
        """After each of the elements (n, L)."""
        if self.table is None:
            return (np.cumsum(2 * drawn - 1, axis=1) > 0).astype(np.int64)
        if self.group in CYCLIC:
            return np.cumsum(drawn, axis=1) % self.num_classes
        out = drawn.T.copy()
        for before, now in pairwise(out):
            now[:] = self.table[before, now]
        return out.T

    def floor(self, reach: int, split: str = "test") -> float | None:
        """A group's product is known where the beginning is in sight; elsewhere it is uniform, whatever is seen. Of
        a majority the rest of the prefix is a sum of coins."""
        so_far = np.arange(self.first, self.max_len) + 1
        if self.table is None:
            return float(np.mean([majority_from(int(n), min(reach + 1, int(n))) for n in so_far]))
        return float(np.where(so_far <= reach + 1, 1.0, 1 / self.num_classes).mean())

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return super().rules() | ({"total": total} if self.table is None else {})


def majority_from(bits: int, seen: int) -> float:
    """Share that is right of guesses whether most of `bits` coins are ones, from `seen` of them."""
    rest, right = bits - seen, 0
    for ones in range(seen + 1):
        more = sum(comb(rest, k) for k in range(rest + 1) if 2 * (ones + k) > bits)
        right += comb(seen, ones) * max(more, 2**rest - more)
    return right / 2**bits


def total(train: Items, test: Items) -> np.ndarray:
    """The best guess from the position, this token and the number of ones in the whole sequence."""

    def seen(tokens: np.ndarray) -> np.ndarray:
        return ((tokens == 2).sum(1)[:, None] * tokens.shape[1] + np.arange(tokens.shape[1])) * 2 + tokens - 1

    fit, asked = train.drawn(np.arange(FIT)), test.labels != NOT_ASKED
    best, _ = looked_up(seen(fit.tokens).ravel(), fit.labels.ravel(), seen(test.all.tokens)[asked])
    out = np.zeros(test.labels.shape, np.int64)
    out[asked] = best
    return out
