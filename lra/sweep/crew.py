"""Runs side by side: a thread keeps each, the main one hears the signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from lra.machine.signals import heard
from lra.runner.keeper import GOING


def side_by_side(workers: int, do: Callable[..., Any], jobs: Sequence[Sequence[Any]]) -> list[Any]:
    """`do(*job)` of each job, so many at a time; the results, in order. An ending that is heard, and any exception
    of one, ends all, and is raised once nothing is left of them."""

    def one(job: Sequence[Any]) -> Any:
        if GOING.told:
            raise KeyboardInterrupt
        return do(*job)

    try:
        with heard(GOING.end, GOING.warn), ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(one, job) for job in jobs]
            wait(futures, return_when=FIRST_EXCEPTION)
            if not GOING.told and any(f.done() and f.exception() is not None for f in futures):
                GOING.end()
    finally:
        GOING.told = False
    return [future.result() for future in futures]
