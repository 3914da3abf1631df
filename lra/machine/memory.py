"""Memory of processes, and whether the system has killed one for it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process

GROUPS = Path("/sys/fs/cgroup")
MOMENT = 10.0  # seconds between a kill and the end of what it was a part of, at most


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
