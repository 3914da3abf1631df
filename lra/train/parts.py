"""Where a batch is cut: parts of like length, each padded to its own longest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from lra.settings.schema import Settings

OVERHEAD = 300.0  # positions


@dataclass(frozen=True)
class Cut:
    """How a batch of known lengths is cut; together the parts of all processes are the batch.

    overhead   what a part costs beside its positions, in positions: the parts are those that cost least in all
    count      so many parts instead, of equal numbers of examples
    least      of parts: none holds more than one of `least` equal shares (`train.accumulate`)
    undivided  why the batch is not cut by length, if it is not
    mixed      parts have to be of mixed lengths, as drawn: examples see each other
    """

    overhead: float = OVERHEAD
    count: int | None = None
    least: int = 1
    undivided: str | None = None
    mixed: bool = False

    def __call__(self, lengths: np.ndarray, rank: int = 0, processes: int = 1) -> list[np.ndarray]:
        """Places in the batch, one array a part, for one process. lengths (B,): of the whole batch.

        Every process takes the same number of parts, and of neighbours in length one each, longest first: memory
        trouble shows at once.
        """
        if self.mixed:
            parts = processes * self.least
            return [np.arange(rank * self.least + i, len(lengths), parts) for i in range(self.least)]
        order = np.argsort(-lengths, kind="stable")
        longest = lengths[order[::processes]][: max(1, len(lengths) // processes)]
        return np.split(order[rank::processes], self.places(longest))

    def places(self, lengths: np.ndarray) -> list[int]:
        """Where lengths (n,), descending, are cut."""
        n = len(lengths)
        if self.count is not None:
            parts = min(n, max(self.count, self.least))
            return [n * i // parts for i in range(1, parts)]
        return cheapest(lengths, self.overhead, -(-n // self.least))


def cheapest(lengths: np.ndarray, overhead: float, most: int) -> list[int]:
    """Cuts of lengths (n,), descending, into parts of at most `most`, for which the sum over parts of overhead +
    size x longest is least: by the least cost of each beginning, O(n^2)."""
    n = len(lengths)
    least, start = np.zeros(n + 1), np.zeros(n + 1, int)
    for end in range(1, n + 1):
        begin = np.arange(max(0, end - most), end)
        costs = least[begin] + overhead + (end - begin) * lengths[begin]
        best = int(costs.argmin())
        least[end], start[end] = costs[best], begin[best]
    cuts = [int(start[n])]
    while cuts[-1]:
        cuts.append(int(start[cuts[-1]]))
    return cuts[-2::-1]


def cut_for(model: nn.Module, settings: Settings, device: str) -> Cut:
    """The cut of a run: a function of its settings, of the model and of the kind of device alone.

    On CUDA, and for a compiled model, a batch is one part unless `data.parts` says otherwise: there a part costs
    its launches, and every shape another compilation.
    """
    least, asked = settings.train.accumulate, settings.data.parts
    if (who := couples(model)) is not None:
        return Cut(least=least, undivided=f"{who} couples the examples of a batch", mixed=True)
    if asked is not None:
        return Cut(count=asked, least=least)
    if device != "cpu":
        return Cut(count=1, least=least, undivided=f"on {device} a part costs more than its padding")
    if settings.compile:
        return Cut(count=1, least=least, undivided="a compiled model is compiled again for every shape")
    return Cut(least=least)


def couples(model: nn.Module) -> str | None:
    """The class of a module in which examples of a batch see each other while training: one that says so by
    `couples_examples = True`, or a batch norm."""
    for module in model.modules():
        if getattr(module, "couples_examples", isinstance(module, nn.modules.batchnorm._BatchNorm)):
            return type(module).__name__
    return None
