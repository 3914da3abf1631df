"""Work done by a second process, where one can be had without importing everything anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

A = TypeVar("A")
T = TypeVar("T")


@contextmanager
def side_by_side(work: Callable[..., T], *args: Any) -> Iterator[Callable[[], T]]:
    """Begin work(*args) in a second process; calling what this gives waits for the result, or raises
    what it raised. Where processes cannot be forked the call itself does the work.

    The process has all that this one has read and worked out until then; only the result is pickled.
    """
    if not _forks():
        yield lambda: work(*args)
        return
    with _second(lambda _: work(*args)) as pipe:
        yield lambda: _heard(pipe)


@contextmanager
def ahead(ready: Callable[[], Callable[[A], T]]) -> Iterator[Callable[[A], Callable[[], T]]]:
    """Begin ready(), say an import, in a second process while the argument of the work is still made here.

    What this gives takes the argument, which is pickled, and has `ready()(argument)` begun; calling what it
    returns waits for the result as in `side_by_side`.
    """
    if not _forks():
        yield lambda argument: lambda: ready()(argument)
        return
    with _second(lambda pipe: ready()(pipe.recv())) as pipe:

        def give(argument: A) -> Callable[[], T]:
            pipe.send(argument)
            return lambda: _heard(pipe)

        yield give


def _forks() -> bool:
    return "fork" in get_all_start_methods()


@contextmanager
def _second(work: Callable[[Connection], Any]) -> Iterator[Connection]:
    """A process that does the work and sends (True, result) or (False, error); it ends with the context."""
    ours, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_told, args=(ours, theirs, work), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()  # of one that has told its result nothing is lost
        process.join()
        ours.close()


def _told(parents: Connection, pipe: Connection, work: Callable[[Connection], Any]) -> None:
    parents.close()  # else the death of the parent would not be seen here
    try:
        found = True, work(pipe)
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
