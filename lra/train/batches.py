"""Which examples make up which batch: a seeded stream that any process can compute alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader


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


def stream(lengths: np.ndarray, batch_size: int, seed: int, bucket: bool = False) -> Iterator[np.ndarray]:
    """Endless batches of indices (batch_size,); every epoch takes every example exactly once.

    An epoch is a seeded permutation; epochs follow one another without a gap, so that no batch is
    short and no example is dropped. With `bucket`, POOL batches at a time are sorted by length,
    cut, and put in random order: same examples, less padding. lengths (N,).
    """
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


def share(batch: np.ndarray, rank: int, processes: int, accumulate: int) -> list[np.ndarray]:
    """The parts of a global batch that process `rank` takes, one after the other.

    Whatever the number of processes and parts, together they are the global batch.
    """
    parts = processes * accumulate
    return [batch[rank * accumulate + i :: parts] for i in range(accumulate)]


def by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All indices once, in batches of like length, longest first: memory trouble shows at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
