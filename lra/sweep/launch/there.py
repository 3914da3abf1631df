"""What is done where a cluster has put a run: the run, under a keeper, as anywhere else."""

from __future__ import annotations

import os
import time

from lra.errors import INTERRUPTED

PARK = 600.0  # seconds


def done(words: tuple[str, ...], config_dir: str | None, folder: str, park: bool = False) -> int:
    """Do the run that the words name, in `folder`; its exit code.

    park: a job that is told to end stays until it is killed. Slurm tells a job that it is preempted, and puts it back
    into the queue only if it has not ended by itself: one that keeps its state and leaves never comes back.
    """
    from lra.runner.keeper import kept
    from lra.settings import compose

    os.chdir(folder)
    end = kept(compose.config(words, config_dir), shared=True)
    if end.code == INTERRUPTED and park:
        time.sleep(PARK)
    return end.code


def with_threads(words: tuple[str, ...], threads: int | None) -> tuple[str, ...]:
    """The words of a run with the threads that the cluster gives it, unless it asks for a number itself."""
    if threads is None or any(w.startswith("threads=") for w in words):
        return words
    return (*words, f"threads={threads}")
