"""What a board shows, worked out once for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from lra.cost import growth
from lra.cost.points import widest
from lra.leaderboard.pick import picked
from lra.marks import ranks
from lra.marks.exams import Exam, averaged_row
from lra.marks.means import of_sequences, standard
from lra.marks.race import Race, raced
from lra.marks.runs import GROUP, local_floors
from lra.marks.skill import skill
from lra.marks.stats import above_chance
from lra.record.answers import Answers
from lra.results import Results

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
    kind: str  # model | variant | pixels (knows rows and columns) | pretrained | floor
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
    lines: tuple[Line, ...]  # models, best first, runs with overrides, those that know rows and columns, floors
    measured: str | None  # what the costs were measured on; null without a cost sweep
    race: Race | None = None  # of a budget of minutes
    pretrained: tuple[Line, ...] = ()  # in a table of their own, beside what was trained from scratch
    points: tuple[Mapping[str, Any], ...] = ()  # of the chart whose axes are picked

    @property
    def title(self) -> str:
        return f"budget {self.budget}, {self.machine}, {self.dtype}"

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def empty(self, column: Column) -> bool:
        return all(line.mark(column.key) == Mark() for line in self.lines)


Marks = dict[tuple[str, str], Mark]  # (model, column's key) -> cell
Costs = dict[str, dict[int, Cost]]  # model -> length -> cost


def boards(results: Results) -> list[Board]:
    """One for each budget, machine and precision with a run: its cells, the floors on the same data, and the
    cost sweep on the same budget, machine and precision. Of a budget the machine with most cells comes first."""
    found = sorted(results.cells.groupby(GROUP, sort=True), key=lambda pair: (pair[0][0], -len(pair[1])))
    return [_board(group, part, results) for group, part in found]


def _board(group: tuple[str, ...], part: pd.DataFrame, results: Results) -> Board:
    usual = of_sequences(standard(part))
    columns, marks = _scored(part, _columns(part, results.exams.always()), results.answers)
    for column in _averages(columns, usual, results.exams.always()):
        ranked = ranks.average(usual, column.over, results.answers)
        columns.append(_with(column, ranked, None))
        marks |= {(name, column.key): _average(ranked, name) for name in ranked.values}
    measured, costs = _costs(results, group)
    lines = [_line(name, own, columns, marks, costs) for name, own in part.groupby("model", sort=True)]
    lines.sort(key=_standing)
    race = raced(results.racing, part, local_floors(results.runs)) if len(results.racing) else None
    points = tuple(picked(part, results, group[-1]))
    ahead = tuple(line for line in lines if line.kind == "pretrained")
    lines = [line for line in lines if line.kind != "pretrained"]
    return Board(*group, tuple(columns), (*lines, *_rules(part, results.floors)), measured, race, ahead, points)


def _scored(part: pd.DataFrame, columns: list[Column], answers: Answers) -> tuple[list[Column], Marks]:
    """The columns with what their ranks say of them, and every model's marks in them."""
    out, marks = [], {}
    for column in columns:
        here = part[part["row"] == column.key]
        ranked = ranks.column(of_sequences(standard(here)), answers) if len(here) else ranks.NONE
        counts = here["items"].dropna()
        out.append(_with(column, ranked, int(counts.max()) if len(counts) else None))
        marks |= {(c.model, column.key): _mark(c, ranked.ranks.get(c.model), answers) for c in here.itertuples()}
    return out, marks


def _rules(part: pd.DataFrame, floors: pd.DataFrame) -> list[Line]:
    """The floors on the data of these cells, by name."""
    data = set(zip(part["row"], part.fingerprint, strict=True))
    same = [pair in data for pair in zip(floors["row"], floors.fingerprint, strict=True)]
    rules = floors[np.array(same, bool)]
    zeros = rules[rules.local.eq(True)].groupby("row").accuracy.max()
    lines = []
    for name, own in rules.sort_values("run_id").groupby("model", sort=True):
        found = {r.row: _floor(r, zeros.get(r.row)) for r in own.itertuples()}
        lines.append(Line(name, "floor", found, local=bool(own.local.eq(True).all())))
    return lines


def _columns(part: pd.DataFrame, always: list[Exam]) -> list[Column]:
    """The exams in the paper's order, each with its standard row and stand-ins, then other tasks."""
    exams = dict(zip(part["row"], part.exam, strict=True))
    out = []
    for exam in always:
        mine = sorted((r for r, e in exams.items() if e.of == exam.of), key=lambda r: (r != exam.of, r))
        out += [Column(r, exams[r].heading(r), exam, r == exam.of) for r in mine] or [Column(exam.of, exam.title, exam)]
    theirs = {exam.of for exam in always}
    others = sorted((r for r, e in exams.items() if e.of not in theirs), key=lambda r: (exams[r].order, r))
    return out + [Column(r, exams[r].heading(r), exams[r], r == exams[r].of) for r in others]


def _averages(columns: list[Column], usual: pd.DataFrame, always: list[Exam]) -> list[Column]:
    """Avg5 and Avg6, each exam by its `averaged_row`. An exam that only a record knows joins none of ours: all
    that have not sat it would lose their average."""
    known = usual[usual.accuracy.notna()].groupby("row").size().to_dict()
    exams = {c.exam.of: c.exam for c in columns}
    chosen = {}
    for of in exams:
        mine = {c.key: c for c in columns if c.exam.of == of}
        chosen[of] = mine[averaged_row(of, {key: known.get(key, 0) for key in mine})]
    out = []
    for number in sorted({n for exam in exams.values() for n in exam.averages}):
        ours = [exam.of for exam in always if number in exam.averages]
        over = [chosen[of] for of in ours or [of for of, exam in exams.items() if number in exam.averages]]
        whole = all(c.standard for c in over)
        title = f"Avg{number}" if whole else f"Avg{number} (stand-ins)"
        out.append(Column(f"avg{number}", title, None, whole, tuple(c.key for c in over)))
    return out


def _with(column: Column, ranked: ranks.Ranked, items: int | None) -> Column:
    return replace(column, items=items, resolution=ranked.resolution, unranked=ranked.unranked)


def _known(value: Any) -> Any:
    """A value of a table with null for what is missing."""
    return None if value is None or (np.isscalar(value) and pd.isna(value)) else value


def _mark(cell: Any, rank: tuple[int, int] | None, answers: Answers) -> Mark:
    names = [f.name for f in fields(Mark) if f.name not in ("rank", "above_chance")]
    values = {n: _known(getattr(cell, n)) for n in names}
    for name in ("items", "steps", "parameters", "active_parameters", "step_peak_bytes", "seeds", "failed"):
        values[name] = None if values[name] is None else int(values[name])
    return Mark(**values, rank=rank, above_chance=_above_chance(cell, answers))


def _above_chance(cell: Any, answers: Answers) -> tuple[int, int] | None:
    if not cell.exam.all_or_nothing or not cell.seeds:
        return None
    constant, each = answers.chance(cell.answers[0]), answers.right(cell.answers)
    if constant is None or each is None:
        return None
    return above_chance(each.mean(-1), each.shape[-1], constant), cell.seeds


def _average(ranked: ranks.Ranked, name: str) -> Mark:
    low, high = ranked.intervals.get(name, (None, None))
    return Mark(accuracy=ranked.values[name], low=low, high=high, status="ok", rank=ranked.ranks.get(name))


def _line(name: str, own: pd.DataFrame, columns: list[Column], marks: Marks, costs: Costs) -> Line:
    ratios = own.parameters_ratio.dropna()
    furthest = max(ratios, key=lambda r: abs(np.log(r))) if len(ratios) else None
    mine = {c.key: marks[name, c.key] for c in columns if (name, c.key) in marks}
    kind = "variant" if own.variant.astype(bool).all() else "model"
    kind = "pretrained" if own.pretraining.notna().any() else "pixels" if own.uses_2d.all() else kind
    return Line(name, kind, mine, costs.get(name, {}), None if furthest is None else float(furthest))


def _standing(line: Line) -> tuple:
    """Best average first; without one, those with most accuracies first."""
    rows = [m.accuracy for key, m in line.marks.items() if not key.startswith("avg") and m.accuracy is not None]
    average = line.mark("avg6").accuracy, line.mark("avg5").accuracy
    return (
        ("model", "variant", "pixels", "pretrained").index(line.kind),
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
        edited=(rule.file,) * bool(rule.edited),
        fingerprint=rule.fingerprint,
    )


def _costs(results: Results, group: tuple[str, ...]) -> tuple[str | None, Costs]:
    """(what was measured, model -> length -> Cost) of the sweep with most models in this group."""
    points = results.points
    conditions = np.logical_and.reduce([points[c] == v for c, v in zip(GROUP, group, strict=True)])
    here = points[
        conditions & (points["mode"] == "fixed") & (points.phase == "train") & points.length.isin(growth.TABLE_2)
    ]
    best = widest(here)
    if best is None:
        return None, {}
    first = best.iloc[0]
    changed = best[best.run_id.isin(results.runs.run_id[results.runs.edited.astype(bool)])]
    edited = set(zip(changed.model, changed.length, strict=True))
    out: Costs = {}
    for p in best[best.status != "ok"].sort_values("run_id").itertuples():
        out.setdefault(p.model, {})[int(p.length)] = Cost(status=p.status, edited=(p.model, p.length) in edited)
    for p in growth.relative(best).itertuples():
        ratios = _known(p.relative_speed), _known(p.relative_memory)
        found = Cost(*ratios, "ok", bool(p.disturbed), (p.model, p.length) in edited)
        out.setdefault(p.model, {})[int(p.length)] = found
    return f"{first.task}, batch {first.batch_size}, {first.threads} thread{'' if first.threads == 1 else 's'}", out
