"""Work done by a second process, where one can be had without importing everything anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def beside(work: Callable[..., T], *args: Any) -> Iterator[Callable[[], T]]:
    """Begin work(*args) in a second process; calling what this gives waits for the result, or raises
    what it raised. Where processes cannot be forked the call itself does the work.

    `work` and its result are pickled.
    """
    if "fork" not in get_all_start_methods():
        yield lambda: work(*args)
        return
    with ProcessPoolExecutor(1, get_context("fork")) as second:
        yield second.submit(work, *args).result
