"""Was the machine quiet while a step was timed? What else it did, and how steady its clock was."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUSY = 0.1  # of the machine, at work for others: cores share caches, memory and often a clock
STEADY = 0.25  # interquartile range of the step times, as a share of their median, that is still steady


class Watch:
    """Use as `with watch: ...`, around each stretch that is timed; `watch.facts` is what a record keeps.

    threads       of the process that is timed
    clock_noise   interquartile range over median of a short fixed program run many times before
    load_average  of the last minute (before the first stretch, after the last); null where the system
                  has none
    other_cores   cores that everything else on the machine, its host included, kept busy meanwhile;
                  null where the system does not say (it is read from /proc/stat)
    """

    def __init__(self, threads: int) -> None:
        self.facts: dict[str, Any] = {"threads": threads, "cores": cores(), "clock_noise": clock_noise()}
        self.load, self.wall, self.others = load_average(), 0.0, 0.0

    def __enter__(self) -> Watch:
        self.begin = time.perf_counter(), time.process_time(), busy_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        begin, own, busy = self.begin
        now = busy_seconds()
        self.wall += time.perf_counter() - begin
        share = None
        if busy is not None and now is not None and self.wall > 0:
            self.others += now - busy - (time.process_time() - own)
            share = round(max(0.0, self.others) / self.wall, 3)
        self.facts |= {"load_average": [self.load, load_average()], "other_cores": share}


def disturbed(facts: Mapping[str, Any], *timings: Mapping[str, Any]) -> bool:
    """True if the machine had other work too, on whichever of its cores, or the steps were unsteady.

    `facts` are a Watch's, `timings` those of `lra.measure.cost.rates`.
    """
    others = facts["other_cores"]
    crowded = others is not None and others > BUSY * facts["cores"]
    return crowded or any(spread(t) > STEADY for t in timings)


def spread(timing: Mapping[str, Any]) -> float:
    """Interquartile range over median of the step times, at one pace where it was taken."""
    if not timing.get("paces"):
        return timing["seconds_iqr"] / timing["seconds_median"]
    even = [seconds * pace for seconds, pace in zip(timing["seconds"], timing["paces"], strict=True)]
    low, median, high = statistics.quantiles(even, n=4, method="inclusive")
    return (high - low) / median


def cores() -> int:
    """Of the machine: what other processes have to themselves counts too."""
    return os.cpu_count() or 1


def load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def busy_seconds() -> float | None:
    """CPU seconds that all processes, interrupts and the host of a virtual machine have used."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(w) for w in words[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def clock_noise(repeats: int = 60) -> float:
    """Spread of the time of a fixed program of about a millisecond that fits in a core's cache."""

    def program() -> float:
        begin = time.perf_counter()
        sum(i * i for i in range(10_000))
        return time.perf_counter() - begin

    program()
    low, median, high = statistics.quantiles((program() for _ in range(repeats)), n=4, method="inclusive")
    return round((high - low) / median, 4)
