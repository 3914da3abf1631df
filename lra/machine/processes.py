"""The processes below one: found, asked to end, ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process

MARK = "LRA_TREE"  # variable of the environment that all processes of a tree share
PATIENCE = 1.0  # seconds that a process which is asked to end has
LONGEST = 10.0  # seconds after which one that the system does not let go is left to it
LINUX = sys.platform == "linux"


def adopt() -> None:
    """Become the parent of whatever is left below this process when its own parent ends, as a daemon's does.

    Linux alone knows of it (prctl(2), PR_SET_CHILD_SUBREAPER); elsewhere such processes are known by their mark.
    """
    if LINUX:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def below(pid: int) -> list[Process]:
    """Children, their children, and so on."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def marked(token: str) -> list[Process]:
    """Whoever has the token among its variables, but for this process: also what has left its parent, its session
    and its group."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == token:
                found.append(process)
    return found


def send(processes: Sequence[Process], number: int) -> None:
    """A signal to each that is still there; to a later one of its number none is sent."""
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def end(find: Callable[[], Sequence[Process]]) -> None:
    """Ask what is found to end, then end it, until nothing is found."""
    begin, asked = time.monotonic(), False
    while (left := find()) and (spent := time.monotonic() - begin) < LONGEST:
        if not asked or spent > PATIENCE:
            send(left, signal.SIGKILL if asked else signal.SIGTERM)
            asked = True
        time.sleep(0.02)


def freeze(pid: int, frozen: bool) -> None:
    """Stop all below `pid`, or have them go on."""
    before = -1
    while (found := below(pid)) and len(found) != before:  # what was started meanwhile
        send(found, signal.SIGSTOP if frozen else signal.SIGCONT)
        before = len(found)
