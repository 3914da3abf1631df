"""Work done by a second process, where one can be had without importing everything anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def beside(work: Callable[..., T], *args: Any) -> Iterator[Callable[[], T]]:
    """Begin work(*args) in a second process; calling what this gives waits for the result, or raises
    what it raised. Where processes cannot be forked the call itself does the work.

    The process has all that this one has read and worked out until then; only the result is pickled.
    """
    if "fork" not in get_all_start_methods():
        yield lambda: work(*args)
        return
    ours, theirs = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_told, args=(theirs, work, args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield lambda: _heard(ours)
    finally:
        process.terminate()  # of one that has told its result nothing is lost
        process.join()
        ours.close()


def _told(pipe: Connection, work: Callable[..., T], args: tuple[Any, ...]) -> None:
    try:
        found = True, work(*args)
    except Exception as error:
        found = False, error
    pipe.send(found)


def _heard(pipe: Connection) -> Any:
    try:
        good, found = pipe.recv()
    except EOFError:
        raise RuntimeError("the second process ended without a result") from None
    if not good:
        raise found
    return found
