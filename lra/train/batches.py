"""Which examples make up which batch: a seeded stream that any process can compute alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, tee
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lra.train.parts import Cut


@dataclass(frozen=True)
class Part:
    """What a step takes by itself: a batch of the task, and the place (n,) of each of its examples in the whole
    batch of that step, over all processes."""

    batch: Any
    examples: Tensor

    @property
    def asked(self) -> int:
        """How many answers are asked for."""
        return self.batch.asked

    def to(self, device: torch.device) -> Part:
        return Part(self.batch.to(device), self.examples)


def dealt(batch: Any, count: int = 1) -> list[Part]:
    """A batch of the task in so many parts, its examples dealt out in turn."""
    examples = torch.arange(len(batch.labels))
    return [Part(type(batch)(*(t[i::count] for t in batch)), examples[i::count]) for i in range(count)]


def feed(
    task: Any, split: Any, batches: Iterable[np.ndarray], cut: Cut, share: tuple[int, int], workers: int, pin: bool
) -> Iterator[list[Part]]:
    """Of each batch the parts that one process takes; share: its rank, and the number of processes."""
    named, loaded = tee((batch, cut(split.lengths[batch], *share)) for batch in batches)
    found = iter(loader(task, split, (batch[p] for batch, places in loaded for p in places), workers, pin))
    for _, places in named:
        yield [Part(next(found), torch.from_numpy(p)) for p in places]


def loader(task: Any, split: Any, batches: Any, workers: int, pin: bool) -> DataLoader:
    """Batches of a split, collated by the task, for an iterable of index arrays."""
    return DataLoader(
        split,
        batch_sampler=_Given(batches),
        collate_fn=task.collate,
        num_workers=workers,
        pin_memory=pin,
        generator=torch.Generator(),  # or its workers' seed would be drawn from the model's random stream
    )


class _Given:
    """A batch sampler that hands on what it was given."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (b.tolist() for b in self.batches)


POOL = 50  # batches sorted by length together when bucketing


STRIDE = 32  # a run begins an endless split at its seed times 2^STRIDE, which no other seed reaches


def stream(
    lengths: np.ndarray, batch_size: int, seed: int, bucket: bool = False, endless: bool = False
) -> Iterator[np.ndarray]:
    """Endless batches of indices (batch_size,); every epoch takes every example exactly once.

    With `endless` the split has more examples than any run takes, one as good as the next: batches are what follows
    from a place that the seed says, and so every example is new.

    An epoch is a seeded permutation; epochs follow one another without a gap, so that no batch is
    short and no example is dropped. With `bucket`, POOL batches at a time are sorted by length,
    cut, and put in random order: same examples, less padding. lengths (N,).
    """
    if endless:
        begin = (seed << STRIDE) % len(lengths)
        yield from (np.arange(i, i + batch_size) % len(lengths) for i in count(begin, batch_size))
    pool = POOL * batch_size if bucket else batch_size
    waiting = np.empty(0, np.int64)
    epoch = 0
    while True:
        while len(waiting) < pool:
            order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(lengths))
            waiting = np.concatenate((waiting, order))
            epoch += 1
        part, waiting = waiting[:pool], waiting[pool:]
        if not bucket:
            yield part
            continue
        part = part[np.argsort(lengths[part], kind="stable")]
        for i in np.random.Generator(np.random.PCG64([seed, epoch, len(waiting)])).permutation(POOL):
            yield part[i * batch_size : (i + 1) * batch_size]


def by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All indices once, in batches of like length, longest first: memory trouble shows at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
