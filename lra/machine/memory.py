"""Memory of processes, and whether the system has killed one for it."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process

GROUPS = Path("/sys/fs/cgroup")
MOMENT = 10.0  # seconds between a kill and the end of what it was a part of, at most
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of malloc.h
kept = False  # does what is freed stay with this process?


def keep_freed() -> None:
    """What is freed stays with this process for what it takes next, where the allocator is glibc's.

    By default that gives blocks above 32 MiB, and what lies free at the end of its heap, back to the system. What each
    step then pays for fresh pages sets in at some length and looks like growth (L^2.3 for a method whose exponent is
    2), and depends on where a process lies: two to six thousand pages, up to a seventh of a light model's step.
    """
    global kept
    kept = kept or _mallopt(mmap_max=0, trim_threshold=-1)


@contextmanager
def freed_kept() -> Iterator[None]:
    """`keep_freed` for a while, unless it is so for good: in the end memory is given back."""
    if kept or not _mallopt(mmap_max=0, trim_threshold=-1):
        yield
        return
    try:
        yield
    finally:
        _mallopt(mmap_max=65536, trim_threshold=128 * 1024)  # the defaults
        ctypes.CDLL(None).malloc_trim(0)


def _mallopt(mmap_max: int, trim_threshold: int) -> bool:
    """Whether the allocator could be told so."""
    try:
        libc = ctypes.CDLL(None)
        told, _ = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(told(MMAP_MAX, mmap_max) and told(TRIM_THRESHOLD, trim_threshold))


def held(processes: Sequence[Process], more_than: int) -> int:
    """Bytes of main memory that processes hold together; what several share counts once (their PSS), where the
    system tells it and the plain sum, which is quicker to learn, is above `more_than`."""
    import psutil

    def each(proportional: bool) -> int:
        total = 0
        for process in processes:
            with suppress(psutil.Error):
                if proportional:
                    full = process.memory_full_info()
                    total += getattr(full, "pss", 0) or full.rss
                else:
                    total += process.memory_info().rss
        return total

    plain = each(False)
    return each(True) if plain > more_than else plain


class Kills:
    """How many processes of this one's control group the system has killed because memory ran out (cgroups(7):
    `oom_kill` of memory.events, in version 1 of memory.oom_control)."""

    def __init__(self) -> None:
        self.file = _counter()
        self.seen, self.last = self.count(), float("-inf")

    def count(self) -> int:
        """So far; 0 where the system does not say."""
        with suppress(OSError):
            if self.file and (found := re.search(r"^oom_kill (\d+)$", self.file.read_text(), re.MULTILINE)):
                return int(found[1])
        return 0

    def look(self) -> None:
        """Note the time if there are more than before."""
        if (count := self.count()) > self.seen:
            self.seen, self.last = count, time.monotonic()

    def lately(self) -> bool:
        """Was there one a moment ago?"""
        self.look()
        return time.monotonic() - self.last < MOMENT


def _counter() -> Path | None:
    """The file that counts."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            name = {"": "memory.events", "memory": "memory.oom_control"}.get(controllers)
            if name and (file := _nearest(GROUPS / controllers, path, name)):
                return file
    return None


def _nearest(root: Path, path: str, name: str) -> Path | None:
    """The file of the group or of one above: in a container the path may begin outside of what is to be seen."""
    folder = root / path.lstrip("/")
    while not (folder / name).is_file():
        if folder == root or root not in folder.parents:
            return None
        folder = folder.parent
    return folder / name
