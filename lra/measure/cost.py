"""What a measurement finds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

LEAST_STEPS = 5  # that are timed, however long they take


@dataclass(frozen=True)
class Limits:
    """How long steps are timed: up to `steps`, as many as begin within `seconds`, but not fewer than `least`."""

    steps: int
    seconds: float
    least: int = LEAST_STEPS
    drawn: bool = False  # batches as training draws them, and nothing else


class Timing(NamedTuple):
    """Of one step: wall and CPU seconds, and the machine's pace right after it, FLOPs per second."""

    wall: float
    cpu: float
    pace: float | None = None


@dataclass(frozen=True)
class Rates:
    """Median, least and interquartile range of step times in seconds, and what follows from the median."""

    examples_per_second: float
    tokens_per_second: float
    seconds_median: float
    seconds_min: float
    seconds_iqr: float
    cpu_seconds_median: float
    steps: int
    seconds: Sequence[float]
    paces: Sequence[int] | None


def rates(times: Sequence[Timing], examples: int, tokens: int) -> Rates:
    """Of timed steps of so many examples and tokens."""
    wall = [t.wall for t in times]
    low, median, high = statistics.quantiles(wall, n=4, method="inclusive")
    return Rates(
        examples_per_second=examples / median,
        tokens_per_second=tokens / median,
        seconds_median=median,
        seconds_min=min(wall),
        seconds_iqr=high - low,
        cpu_seconds_median=statistics.median(t.cpu for t in times),
        steps=len(times),
        seconds=[round(w, 6) for w in wall],
        paces=None if times[0].pace is None else [round(t.pace) for t in times],
    )


@dataclass(frozen=True)
class Drawn:
    """Training steps on batches as they are drawn, in their parts: mean seconds of a step, wall and of cores, and the
    machine's pace, FLOPs per core-second; null on CUDA. core_seconds times pace is the mean of their product, the work
    of a step."""

    steps: int
    seconds: float
    core_seconds: float
    pace: float | None


def drawn(times: Sequence[Timing], each: int = 1) -> Drawn:
    """Of stretches of `each` steps."""
    wall, core_seconds = (statistics.fmean(getattr(t, name) for t in times) for name in ("wall", "cpu"))
    pace = None if times[0].pace is None else statistics.fmean(t.cpu * t.pace for t in times) / core_seconds
    return Drawn(each * len(times), wall / each, core_seconds / each, pace)


@dataclass(frozen=True)
class Cost:
    """The cost of a step, or why there is none. status: "ok" | "oom" | "timeout" | "failed"; null is "not measured"."""

    status: str
    reason: str | None = None
    batch_size: int | None = None
    length: int | None = None
    documents: int | None = None
    parameters: int | None = None
    train_flops: int | None = None
    inference_flops: int | None = None
    flops_reason: str | None = None
    step_peak_bytes: int | None = None
    resident_bytes: int | None = None
    train: Rates | None = None
    inference: Rates | None = None
    drawn: Drawn | None = None  # where it was asked for
    conditions: Mapping[str, Any] | None = None
    disturbed: bool = False
    attempts: int = 1

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def total_bytes(self) -> int:
        """That a step needs in all."""
        return self.resident_bytes + self.step_peak_bytes

    def again(self) -> Cost:
        """The same, marked as the better of two attempts."""
        return replace(self, attempts=2)

    def asdict(self) -> dict[str, Any]:
        """As a record holds it: of a failure its status and reason alone."""
        whole = asdict(self)
        return whole if self.ok else {k: whole[k] for k in ("status", "reason")}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Cost:
        """From what `asdict` gave."""
        timed = {k: Rates(**found[k]) for k in ("train", "inference") if found.get(k)}
        own = {"drawn": Drawn(**found["drawn"])} if found.get("drawn") else {}
        return cls(**{**found, **timed, **own})


def failure(status: str, reason: str) -> Cost:
    return Cost(status, reason)
