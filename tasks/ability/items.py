"""Items that are drawn when they are asked for: a stream to train on, and two fixed sets that it never meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lra.tasks.ability.draw import Source, keys, mixed, salts
from lra.tasks.base import DataError, Example

ENDLESS = 1 << 56  # items of a stream: far more than any run takes
ATTEMPTS = 200  # draws of an item that is to differ from those held out
CHUNK = 512  # items drawn at a time where all of a set are


class Drawn(NamedTuple):
    """n items: tokens (n, L), all real; labels (n, L), NOT_ASKED where nothing is asked; kinds (n, L): of each
    answer, which of the task's `kinds` it is reported under (elsewhere of no meaning). All int64."""

    tokens: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray

    def examples(self) -> list[Example]:
        return [Example((t,), y) for t, y in zip(self.tokens, self.labels, strict=True)]


def contents(tokens: np.ndarray) -> np.ndarray:
    """uint64 (n,): equal for equal rows of tokens (n, L); others agree once in 2^64."""
    return mixed((tokens.astype(np.uint64) * salts("contents", tokens.shape[1])).sum(1, dtype=np.uint64))


class Items:
    """A Split whose item i is a function of its key and i alone: not of batch, order, process or machine.

    base: the key of seed and split. draw(source, indices) -> Drawn. An item whose tokens are among `held`, content
    hashes in ascending order, is drawn again: an exam has no item in two splits, however few there are.
    """

    truncated = 0

    def __init__(
        self,
        base: int,
        count: int,
        length: int,
        draw: Callable[[Source, np.ndarray], Drawn],
        held: Sequence[Items] = (),
        endless: bool = False,
    ) -> None:
        self.base, self.count, self.draw, self.held, self.endless = base, count, draw, held, endless
        self.length = length

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """What a DataLoader asks for, a batch at once."""
        return self.drawn(np.asarray(indices)).examples()

    @property
    def lengths(self) -> np.ndarray:
        """(N,), which takes no memory, whatever N; kept, it would once it is pickled for a worker."""
        return np.broadcast_to(np.int64(self.length), (self.count,))

    @property
    def labels(self) -> np.ndarray:
        """(N, L), of a fixed set."""
        return self.all.labels

    @cached_property
    def all(self) -> Drawn:
        """A fixed set, whole."""
        if self.endless:
            raise TypeError("a stream has no end; ask for `drawn` items of it")
        return self.fresh(np.arange(self.count))

    @cached_property
    def hashes(self) -> np.ndarray:
        """Content hashes of a fixed set, ascending."""
        return np.unique(contents(self.all.tokens))

    @cached_property
    def taken(self) -> np.ndarray:
        """Content hashes that no item may have, ascending."""
        return np.unique(np.concatenate([np.empty(0, np.uint64), *(h.hashes for h in self.held)]))

    def drawn(self, indices: np.ndarray) -> Drawn:
        """The items of indices (n,); of a fixed set also those behind it, from which rules learn that need more."""
        if self.endless or (len(indices) and indices.max() >= self.count):
            return self.fresh(indices)
        return Drawn(*(part[indices] for part in self.all))

    def fresh(self, indices: np.ndarray) -> Drawn:
        parts = [self._fresh(indices[i : i + CHUNK]) for i in range(0, len(indices), CHUNK)]
        return parts[0] if len(parts) == 1 else Drawn(*map(np.concatenate, zip(*parts, strict=True)))

    def _fresh(self, indices: np.ndarray) -> Drawn:
        out = self.draw(Source(keys(self.base, indices)), indices)
        for attempt in range(1, ATTEMPTS):
            again = np.flatnonzero(self._met(out.tokens))
            if not len(again):
                return out
            redrawn = self.draw(Source(keys(self.base, indices[again], attempt)), indices[again])
            for whole, part in zip(out, redrawn, strict=True):
                whole[again] = part
        raise DataError("task.sizes: valid and test hold nearly all items there are, and leave none to train on")

    def _met(self, tokens: np.ndarray) -> np.ndarray:
        if not len(self.taken):
            return np.zeros(len(tokens), bool)
        found = contents(tokens)
        at = np.searchsorted(self.taken, found).clip(max=len(self.taken) - 1)
        return self.taken[at] == found
