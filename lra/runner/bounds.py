"""What a run may take, and the record's words for one that took more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lra.console import size
from lra.machine import memory
from lra.record.record import Record
from lra.settings.schema import Run, Settings

if TYPE_CHECKING:
    from psutil import Process

GIB = 2**30
BETWEEN = 0.5  # seconds from one look at the memory to the next
# The bound that a status may come from.
NAMES = {"timeout": "timeout", "oom": "memory_gib", "failed": "stalled"}


class Bounds:
    """begin, heard: when the run began, and when it last told that it goes on (null: it has not), on the clock
    `now` that stands still while the run does."""

    def __init__(self, limits: Run) -> None:
        self.limits, self.heard = limits, None
        self.idle, self.since, self.looked = 0.0, None, float("-inf")
        self.begin = self.now()

    def now(self) -> float:
        """Seconds in which the run was free to go on."""
        return (self.since or time.monotonic()) - self.idle

    def pause(self) -> None:
        self.since = self.since or time.monotonic()

    def go_on(self) -> None:
        if self.since is not None:
            self.idle, self.since = self.idle + time.monotonic() - self.since, None

    def beat(self) -> None:
        self.heard = self.now()

    def broken(self, phase: str | None, processes: Callable[[], Sequence[Process]]) -> tuple[str, str] | None:
        """(status, reason) of a run that has taken more than it may; null of one that has not."""
        limits, now = self.limits, self.now()
        where = f" in phase {phase}" if phase else ""
        if limits.timeout is not None and now - self.begin > limits.timeout:
            return "timeout", f"ran longer than run.timeout={limits.timeout:g} seconds{where}"
        if limits.stalled is not None and self.heard is not None and now - self.heard > limits.stalled:
            return "failed", f"no progress for run.stalled={limits.stalled:g} seconds{where}"
        if limits.memory_gib is not None and time.monotonic() - self.looked >= BETWEEN:
            self.looked = time.monotonic()
            held = memory.held(processes(), int(limits.memory_gib * GIB))
            if held > limits.memory_gib * GIB:
                return "oom", f"its processes held {size(held)}{where}, run.memory_gib={limits.memory_gib:g}"
        return None


def bound_of(r: Record) -> float | None:
    """The bound that may have ended a recorded run, if it had one."""
    run, name = r.config.get("run"), NAMES.get(r.status)
    found = run.get(name) if isinstance(run, Mapping) else None
    return float(found) if type(found) in (int, float) else None


def final(status: str, bound: float | None, settings: Settings) -> bool:
    """Would a run with the bounds asked for end as the recorded one did, as far as bounds go? A timeout is final only
    for one that may take no longer, and so for memory and for progress."""
    if bound is None:
        return status != "timeout"  # else one of its measurement
    asked = getattr(settings.run, NAMES[status])
    return asked is not None and asked <= bound
