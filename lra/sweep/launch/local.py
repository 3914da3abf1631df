"""A fresh process on this machine for each run: one after the other, so that none disturbs another, or side by side,
each with its share of the cores or with a GPU of its own."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from lra.runner.keeper import End, kept
from lra.settings import compose
from lra.settings.schema import Settings
from lra.sweep.job import Job


class Local:
    """workers: runs side by side, where no devices are named; devices: GPUs, one run at a time each."""

    workers = 1
    free: queue.SimpleQueue[str | None] | None = None  # GPUs that nobody uses, by their names for CUDA

    def __init__(self, workers: int = 1, devices: Sequence[int] = ()) -> None:
        self.workers = len(devices) or workers
        if devices:
            self.free = queue.SimpleQueue()
            for name in visible(devices):
                self.free.put(name)

    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        settings = self.shared(compose.config(job.words, job.config_dir))
        with self.place() as environment:
            return kept(settings, seconds, True, True, over, environment, job.label)

    def shared(self, settings: Settings) -> Settings:
        """A run's settings, with its share of the machine."""
        if self.workers == 1:
            return settings
        threads = settings.threads or max(1, cores() // self.workers)
        return replace(settings, workers=self.workers, threads=threads)

    @contextmanager
    def place(self) -> Iterator[dict[str, str]]:
        """What a run's environment says of where it is done."""
        if self.free is None:
            yield {}
            return
        name = self.free.get()
        try:
            yield {"CUDA_VISIBLE_DEVICES": name}
        finally:
            self.free.put(name)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible(devices: Sequence[int]) -> list[str]:
    """GPUs by number, of those that CUDA_VISIBLE_DEVICES leaves. Raises ValueError for one that it does not."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return [str(number) for number in devices]
    known = names.split(",")
    if max(devices) >= len(known):
        raise ValueError(f"devices: {list(devices)} is more than CUDA_VISIBLE_DEVICES={names} leaves")
    return [known[number] for number in devices]
