"""What a board shows, worked out once for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from lra.cost import growth
from lra.cost.points import widest
from lra.leaderboard.board import KINDS, Board, Column, Cost, Line, Mark
from lra.leaderboard.chosen import narrowed, refused
from lra.leaderboard.pick import picked
from lra.marks import ranks
from lra.marks.exams import Exam, averaged_row
from lra.marks.means import compared, scratch
from lra.marks.query import called
from lra.marks.race import raced
from lra.marks.runs import GROUP, local_floors
from lra.marks.skill import skill
from lra.marks.stats import LEVEL, above_chance, holm
from lra.record.answers import Answers
from lra.results import Results

Marks = dict[tuple[str, str], Mark]  # (model, column's key) -> cell
Costs = dict[str, dict[int, Cost]]  # model -> length -> cost


def boards(results: Results) -> list[Board]:
    """One for each budget and precision with a run, of budgets of minutes for each machine too: its cells, the floors
    on the same data, and the cost sweep on the same budget, precision and one machine. Of what is chosen those parts,
    with the ranks of the whole."""
    whole = results.whole
    found = sorted(whole.cells.groupby(GROUP, sort=True), key=lambda pair: (pair[0][0], -len(pair[1])))
    if not results.chosen:
        return [_board(group, part, whole) for group, part in found]
    exams = results.exams.always()
    refused(results.chosen, (results.cells, results.abilities), sorted({n for e in exams for n in e.averages}))
    shown = dict(list(results.cells.groupby(GROUP)))
    return [
        narrowed(_board(group, part, whole, results.chosen.varied), shown[group], results.chosen)
        for group, part in found
        if group in shown
    ]


def _board(group: tuple[str, ...], part: pd.DataFrame, results: Results, varied: bool = False) -> Board:
    usual = compared(part, varied)
    columns, marks = _scored(part, usual, _columns(part, results.exams.always()), results.answers)
    for column in _averages(columns, usual, results.exams.always()):
        ranked = ranks.average(usual, column.over, results.answers)
        columns.append(_with(column, ranked, None))
        top = _best(ranked.values, ranked)
        marks |= {(name, column.key): _average(ranked, name, name in top) for name in ranked.values}
    timed = part.timed.iloc[0]
    measured, on, costs = _costs(results, group, timed)
    lines = [_line(name, own, columns, marks, costs) for name, own in part.groupby("model", sort=True)]
    titles = called(line.name for line in lines)
    lines = sorted((replace(line, title=titles[line.name]) for line in lines), key=_standing)
    race = raced(results.racing, part, local_floors(results.runs)) if len(results.racing) else None
    points = tuple(picked(part, results, group[-1]))
    from_scratch = tuple(line for line in lines if line.kind != "pretrained")
    ours = tuple(columns), (*from_scratch, *_rules(part, results.floors))
    tested, apart = _machines(usual)
    differ = {"tested": tested, "apart": apart, "compared": usual.model.nunique()}
    more = {"pretrained": _beside(lines), "points": points}
    return Board(*group, *ours, measured, race, timed, on, **more, **differ)


def _beside(lines: list[Line]) -> tuple[tuple[Line, Line | None], ...]:
    """What was pretrained, each with the same from scratch."""
    known = {line.name: line for line in lines if line.kind != "pretrained"}
    ahead = [line for line in lines if line.kind == "pretrained"]
    return tuple((line, next((known[name] for name in scratch(line.name) if name in known), None)) for line in ahead)


def _machines(cells: pd.DataFrame) -> tuple[int, frozenset[tuple[str, str]]]:
    """How many cells can tell whether machines score alike, and those where they do not (Holm over all of them)."""
    known = cells[cells.apart.notna()]
    differ = known[holm(known.apart.to_numpy(float)) < LEVEL] if len(known) else known
    return len(known), frozenset(zip(differ.model, differ["row"], strict=True))


def _scored(
    part: pd.DataFrame, usual: pd.DataFrame, columns: list[Column], answers: Answers
) -> tuple[list[Column], Marks]:
    """The columns with what their ranks say of them, and every model's marks in them."""
    out, marks = [], {}
    for column in columns:
        here = part[part["row"] == column.key]
        sat = usual[usual["row"] == column.key]
        ranked = ranks.column(sat, answers) if len(here) else ranks.NONE
        counts = here["items"].dropna()
        out.append(_with(column, ranked, int(counts.max()) if len(counts) else None))
        top = _best({c.model: c.accuracy for c in sat.itertuples()}, ranked)
        marks |= {
            (c.model, column.key): _mark(c, ranked.ranks.get(c.model), c.model in top, answers)
            for c in here.itertuples()
        }
    return out, marks


def _best(accuracies: Mapping[str, float], ranked: ranks.Ranked) -> set[str]:
    """Those that no model is told to be better than, with the highest mean as it is printed."""
    first = {name: round(100 * accuracies[name], 1) for name, (best, _) in ranked.ranks.items() if best == 1}
    most = max((round(100 * a, 1) for a in accuracies.values() if pd.notna(a)), default=None)
    return {name for name, printed in first.items() if printed == most}


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


def _mark(cell: Any, rank: tuple[int, int] | None, best: bool, answers: Answers) -> Mark:
    names = [f.name for f in fields(Mark) if f.name not in ("rank", "best", "above_chance")]
    values = {n: _known(getattr(cell, n)) for n in names}
    for name in ("items", "steps", "parameters", "active_parameters", "step_peak_bytes", "seeds", "failed"):
        values[name] = None if values[name] is None else int(values[name])
    return Mark(**values, rank=rank, best=best, above_chance=_above_chance(cell, answers))


def _above_chance(cell: Any, answers: Answers) -> tuple[int, int] | None:
    if not cell.exam.all_or_nothing or not cell.seeds:
        return None
    constant, each = answers.chance(cell.answers[0]), answers.right(cell.answers)
    if constant is None or each is None:
        return None
    return above_chance(each.mean(-1), each.shape[-1], constant), cell.seeds


def _average(ranked: ranks.Ranked, name: str, best: bool) -> Mark:
    low, high = ranked.intervals.get(name, (None, None))
    rank = ranked.ranks.get(name)
    return Mark(accuracy=ranked.values[name], low=low, high=high, status="ok", rank=rank, best=best)


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
        KINDS.index(line.kind),
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


def _costs(results: Results, group: tuple[str, ...], timed: str) -> tuple[str | None, str | None, Costs]:
    """(what was measured, on what, model -> length -> Cost) of the sweep with most models in this group, on the machine
    whose costs the cells have if there is one."""
    points, (budget, machine, dtype) = results.points, group
    here = points[(points.budget == budget) & (points.dtype == dtype) & points.length.isin(growth.TABLE_2)]
    here = here[(here["mode"] == "fixed") & (here.phase == "train")]
    best = widest(here[here.machine == timed])
    best = widest(here) if best is None and not machine else best
    if best is None:
        return None, None, {}
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
    words = f"{first.task}, batch {first.batch_size}, {first.threads} thread{'' if first.threads == 1 else 's'}"
    return words, first.machine, out
