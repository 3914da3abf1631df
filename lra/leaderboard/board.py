"""What a board is: columns, lines, and a mark for each two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lra.marks.exams import Exam
from lra.marks.query import Query
from lra.marks.race import Race
from lra.marks.runs import titled

KINDS = ("model", "variant", "pixels", "pretrained", "floor")  # in this order; pixels: that know rows and columns
OUT_OF_LINE = 0.10  # parameters further than this from the Transformer's are marked


@dataclass(frozen=True)
class Column:
    key: str  # the row of the records, or avg5, avg6
    title: str
    exam: Exam | None  # null of an average
    standard: bool = True  # the exam itself, not a stand-in or a shorter one
    over: tuple[str, ...] = ()  # of an average: the keys it is over
    items: int | None = None
    resolution: float | None = None  # what is told apart 4 times in 5
    unranked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """One cell. Null is "not known"; `status` says why there is no accuracy."""

    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    failed: int = 0
    items: int | None = None
    status: str | None = None
    reason: str | None = None
    skill: float | None = None
    floor: str | None = None
    rank: tuple[int, int] | None = None
    best: bool = False  # of all that are compared, or equal to it as printed and not told apart from it
    above_chance: tuple[int, int] | None = None
    steps: int | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    parameters_ratio: float | None = None
    examples_per_second: float | None = None
    step_peak_bytes: int | None = None
    relative_speed: float | None = None
    relative_memory: float | None = None
    fingerprint: str | None = None
    run_ids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()  # those of the files that were changed after they were written
    contract: str | None = None  # what is broken of it
    blind: float | None = None  # share of the positions that cannot move an answer
    stale: str | None = None  # whether the numbers of the model or the exam have changed since
    searched: str | None = None  # what lra.tune has chosen its settings by
    machines: tuple[str, ...] = ()  # of its runs, those with most first
    departs: tuple[str, ...] = ()  # what the model's own file sets otherwise than the exam's sizes
    core_seconds: float | None = None  # of training
    pretraining: str | None = None
    pretraining_core_seconds: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Cost:
    """A training step at one length, relative to the Transformer's at equal batch."""

    speed: float | None = None
    memory: float | None = None
    status: str | None = None
    disturbed: bool = False
    edited: bool = False  # its record was changed after it was written


@dataclass(frozen=True)
class Line:
    name: str
    kind: str  # of KINDS
    marks: Mapping[str, Mark] = field(default_factory=dict)
    costs: Mapping[int, Cost] = field(default_factory=dict)
    ratio: float | None = None  # parameters to the Transformer's, the furthest from 1 over the columns
    local: bool = False
    title: str = ""  # what tables call it, where that is not its name

    @property
    def out_of_line(self) -> bool:
        return self.ratio is not None and abs(self.ratio - 1) > OUT_OF_LINE

    def mark(self, key: str) -> Mark:
        return self.marks.get(key, Mark())


@dataclass(frozen=True)
class Board:
    budget: str
    machine: str  # of a budget of minutes; else empty
    dtype: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]  # by kind, best first
    measured: str | None  # what the costs were measured on; null without a cost sweep
    race: Race | None = None  # of a budget of minutes
    timed: str = ""  # the machine whose costs the cells have
    measured_on: str | None = None  # that of `measured`
    tested: int = 0  # cells of which it can be told whether machines score alike
    apart: frozenset[tuple[str, str]] = frozenset()  # (model, column's key) of those where they do not
    pretrained: tuple[tuple[Line, Line | None], ...] = ()  # in no ranks, each beside the same from scratch
    points: tuple[Mapping[str, Any], ...] = ()  # of the chart whose axes are picked
    chosen: Query = field(default_factory=Query)  # what of a larger board this shows
    compared: int = 0  # models that its ranks are over, chosen or not

    @property
    def title(self) -> str:
        return titled(self.budget, self.machine, self.dtype)

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def empty(self, column: Column) -> bool:
        return all(line.mark(column.key) == Mark() for line in self.lines)
