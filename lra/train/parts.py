"""Where a batch is cut: parts of like length, each padded to its own longest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from lra.settings.schema import Settings, Size

# What a part costs beside its positions, in positions: launches, which cost as much as multiplying so many numbers
# by weights, and a pass over all gradients. From seconds of a forward and backward pass on one thread of a CPU, fitted
# to a + b n L: a / b for transformer, linear and performer of two layers, and what the two constants make of it:
#
#     D, mlp_dim           64, 128      128, 256   256, 1024   512, 1024
#     weights of a layer    33,000       131,000     786,000   2,100,000
#     a / b            90, 130, 110   50, 110, 50  30, 54, 44      26, 34
#     here                     202            69          32          28
#
# At the first width all 13 models lie between 120 and 290; steps there were quickest at 200, of 100, 200, 300 and 400.
LAUNCHES, GRADIENTS = 5.8e6, 25.0


@dataclass(frozen=True)
class Cut:
    """How a batch of known lengths is cut; together the parts of all processes are the batch.

    overhead   what a part costs beside its positions, in positions: the parts are those that cost least in all
    count      so many parts instead, of equal numbers of examples
    least      of parts: none holds more than one of `least` equal shares (`train.accumulate`)
    undivided  why the batch is not cut by length, if it is not
    mixed      parts have to be of mixed lengths, as drawn: examples see each other
    """

    overhead: float = 0.0
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


def cut_for(model: nn.Module, settings: Settings, device: str, documents: int = 1) -> Cut:
    """The cut of a run: a function of its settings, of the model and of the kind of device alone.

    On CUDA, and for a compiled model, a batch is one part unless `data.parts` says otherwise: there a part costs
    its launches, and every shape another compilation.
    """
    least, asked = settings.train.accumulate, settings.data.parts
    if (who := couples(model)) is not None:
        return Cut(least=least, undivided=f"{who} couples the examples of a batch", mixed=True)
    if asked is not None:
        return Cut(count=asked, least=least)
    if settings.data.pad_to == "max":
        return Cut(count=1, least=least, undivided="data.pad_to=max pads every part alike")
    if device != "cpu":
        return Cut(count=1, least=least, undivided=f"on {device} a part costs more than its padding")
    if settings.compile:
        return Cut(count=1, least=least, undivided="a compiled model is compiled again for every shape")
    return Cut(overhead(settings.size) / documents, least=least)


def overhead(size: Size) -> float:
    """Of a part on a CPU, in positions, for layers of these sizes."""
    return LAUNCHES / (4 * size.dim * size.qkv_dim + 2 * size.dim * size.mlp_dim) + GRADIENTS


def couples(model: nn.Module) -> str | None:
    """The class of a module in which examples of a batch see each other while training: one that says so by
    `couples_examples = True`, or a batch norm."""
    for module in model.modules():
        if getattr(module, "couples_examples", isinstance(module, nn.modules.batchnorm._BatchNorm)):
            return type(module).__name__
    return None
