"""What a board shows, worked out once for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from lra.cost import growth
from lra.cost.points import widest
from lra.marks import ranks
from lra.marks.exams import ALL_OR_NOTHING, EXAMS, FIVE, SIX, averaged_row, exam_of, heading, task_order
from lra.marks.runs import GROUP
from lra.marks.skill import skill
from lra.marks.stats import above_chance
from lra.record.answers import chance, right

OUT_OF_LINE = 0.10  # parameters further than this from the Transformer's are marked


@dataclass(frozen=True)
class Column:
    key: str  # the row of the records, or avg5, avg6
    title: str
    exam: str | None  # of EXAMS; null for other tasks
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
    above_chance: tuple[int, int] | None = None
    steps: int | None = None
    parameters: int | None = None
    parameters_ratio: float | None = None
    examples_per_second: float | None = None
    step_peak_bytes: int | None = None
    relative_speed: float | None = None
    relative_memory: float | None = None
    fingerprint: str | None = None
    run_ids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

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


@dataclass(frozen=True)
class Line:
    name: str
    kind: str  # model | variant | floor
    marks: Mapping[str, Mark] = field(default_factory=dict)
    costs: Mapping[int, Cost] = field(default_factory=dict)
    ratio: float | None = None  # parameters to the Transformer's, the furthest from 1 over the columns
    local: bool = False

    @property
    def out_of_line(self) -> bool:
        return self.ratio is not None and abs(self.ratio - 1) > OUT_OF_LINE

    def mark(self, key: str) -> Mark:
        return self.marks.get(key, Mark())


@dataclass(frozen=True)
class Board:
    budget: str
    machine: str
    dtype: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]  # models, best first, then runs with overrides, then floors
    measured: str | None  # what the costs were measured on; null without a cost sweep

    @property
    def title(self) -> str:
        return f"budget {self.budget}, {self.machine}, {self.dtype}"

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def empty(self, column: Column) -> bool:
        return all(line.mark(column.key) == Mark() for line in self.lines)


def build(cells: pd.DataFrame, floors: pd.DataFrame, points: pd.DataFrame) -> list[Board]:
    """A board for each group of `lra.leaderboard.cells`, with `floors` on the same data and the
    sweep of `lra.cost.load` on the same budget, machine and precision."""
    return [_board(group, part, floors, points) for group, part in cells.groupby(GROUP, sort=True)]


def _board(group: tuple[str, ...], part: pd.DataFrame, floors: pd.DataFrame, points: pd.DataFrame) -> Board:
    columns, marks = [], {}
    for column in _columns(part):
        here = part[part["row"] == column.key]
        ranked = ranks.column(here[~here.variant.astype(bool)]) if len(here) else ranks.NONE
        counts = here["items"].dropna()
        columns.append(_with(column, ranked, int(counts.max()) if len(counts) else None))
        marks |= {(c.model, column.key): _mark(c, ranked.ranks.get(c.model)) for c in here.itertuples()}
    usual = part[~part.variant.astype(bool)]
    for column in _averages(columns, usual):
        ranked = ranks.average(usual, column.over)
        columns.append(_with(column, ranked, None))
        marks |= {(name, column.key): _average(ranked, name) for name in ranked.values}
    measured, costs = _costs(points, group)
    lines = [_line(name, own, columns, marks, costs) for name, own in part.groupby("model", sort=True)]
    lines.sort(key=_standing)
    data = set(zip(part["row"], part.fingerprint, strict=True))
    same = [pair in data for pair in zip(floors["row"], floors.fingerprint, strict=True)]
    rules = floors[np.array(same, bool)]
    zeros = rules[rules.local.eq(True)].groupby("row").accuracy.max()
    for name, own in rules.sort_values("run_id").groupby("model", sort=True):
        found = {r.row: _floor(r, zeros.get(r.row)) for r in own.itertuples()}
        lines.append(Line(name, "floor", found, local=bool(own.local.eq(True).all())))
    return Board(*group, tuple(columns), tuple(lines), measured)


def _columns(part: pd.DataFrame) -> list[Column]:
    """The exams in the paper's order, each with its standard row and stand-ins, then other tasks."""
    rows = dict(zip(part["row"], part.task, strict=True))
    exams = {r: exam_of(t) for r, t in rows.items()}
    out = []
    for exam, title in EXAMS.items():
        mine = sorted((r for r, e in exams.items() if e == exam), key=lambda r: (r != exam, r))
        out += [Column(r, heading(r), exam, standard=r == exam) for r in mine] or [Column(exam, title, exam)]
    others = sorted((r for r, e in exams.items() if e is None), key=task_order)
    return out + [Column(r, r, None) for r in others]


def _averages(columns: list[Column], usual: pd.DataFrame) -> list[Column]:
    """Avg5 and Avg6, each exam by its `averaged_row`."""
    known = usual[usual.accuracy.notna()].groupby("row").size().to_dict()
    chosen = {}
    for exam in SIX:
        mine = {c.key: c for c in columns if c.exam == exam}
        chosen[exam] = mine[averaged_row(exam, {key: known.get(key, 0) for key in mine})]
    out = []
    for exams in (FIVE, SIX):
        over = [chosen[e] for e in exams]
        whole = all(c.standard for c in over)
        title = f"Avg{len(exams)}" if whole else f"Avg{len(exams)} (stand-ins)"
        out.append(Column(f"avg{len(exams)}", title, None, whole, tuple(c.key for c in over)))
    return out


def _with(column: Column, ranked: ranks.Ranked, items: int | None) -> Column:
    return replace(column, items=items, resolution=ranked.resolution, unranked=ranked.unranked)


def _known(value: Any) -> Any:
    """A value of a table with null for what is missing."""
    return None if value is None or (np.isscalar(value) and pd.isna(value)) else value


def _mark(cell: Any, rank: tuple[int, int] | None) -> Mark:
    names = [f.name for f in fields(Mark) if f.name not in ("rank", "above_chance")]
    values = {n: _known(getattr(cell, n)) for n in names}
    for name in ("items", "steps", "parameters", "step_peak_bytes", "seeds", "failed"):
        values[name] = None if values[name] is None else int(values[name])
    return Mark(**values, rank=rank, above_chance=_above_chance(cell))


def _above_chance(cell: Any) -> tuple[int, int] | None:
    if exam_of(cell.task) not in ALL_OR_NOTHING or not cell.seeds:
        return None
    constant, each = chance(cell.answers[0]), right(cell.answers)
    if constant is None or each is None:
        return None
    return above_chance(each.mean(-1), each.shape[-1], constant), cell.seeds


def _average(ranked: ranks.Ranked, name: str) -> Mark:
    low, high = ranked.intervals.get(name, (None, None))
    return Mark(accuracy=ranked.values[name], low=low, high=high, status="ok", rank=ranked.ranks.get(name))


def _line(name: str, own: pd.DataFrame, columns: list[Column], marks: dict, costs: dict) -> Line:
    ratios = own.parameters_ratio.dropna()
    furthest = max(ratios, key=lambda r: abs(np.log(r))) if len(ratios) else None
    mine = {c.key: marks[name, c.key] for c in columns if (name, c.key) in marks}
    kind = "variant" if own.variant.astype(bool).all() else "model"
    return Line(name, kind, mine, costs.get(name, {}), None if furthest is None else float(furthest))


def _standing(line: Line) -> tuple:
    """Best average first; without one, those with most accuracies first."""
    rows = [m.accuracy for key, m in line.marks.items() if not key.startswith("avg") and m.accuracy is not None]
    average = line.mark("avg6").accuracy, line.mark("avg5").accuracy
    return (
        line.kind == "variant",
        *(-(a if a is not None else -1) for a in average),
        -len(rows),
        -float(np.mean(rows)) if rows else 0.0,
        line.name,
    )


def _floor(rule: Any, zero: float | None) -> Mark:
    return Mark(
        accuracy=_known(rule.accuracy),
        items=int(rule.items) if _known(rule.items) is not None else None,
        status="ok",
        skill=skill(_known(rule.accuracy), zero),
        run_ids=(rule.run_id,),
        files=(rule.file,),
        fingerprint=rule.fingerprint,
    )


def _costs(points: pd.DataFrame, group: tuple[str, ...]) -> tuple[str | None, dict[str, dict[int, Cost]]]:
    """(what was measured, model -> length -> Cost) of the sweep with most models in this group."""
    conditions = np.logical_and.reduce([points[c] == v for c, v in zip(GROUP, group, strict=True)])
    here = points[
        conditions & (points["mode"] == "fixed") & (points.phase == "train") & points.length.isin(growth.TABLE_2)
    ]
    best = widest(here)
    if best is None:
        return None, {}
    first = best.iloc[0]
    out: dict[str, dict[int, Cost]] = {}
    for p in best[best.status != "ok"].sort_values("run_id").itertuples():
        out.setdefault(p.model, {})[int(p.length)] = Cost(status=p.status)
    for p in growth.relative(best).itertuples():
        found = Cost(_known(p.relative_speed), _known(p.relative_memory), "ok", bool(p.disturbed))
        out.setdefault(p.model, {})[int(p.length)] = found
    return f"{first.task}, batch {first.batch_size}, {first.threads} thread{'' if first.threads == 1 else 's'}", out
