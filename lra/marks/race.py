"""What is learnt per minute: validation accuracy over the minutes that a run was given (lra.runner.minutes).

The learning rates of a run are trained side by side on the same batches, and a step costs the same at each. So a point
of the curve stands where all of them together had used so many minutes when this one had come so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from lra.record.record import Record
from lra.settings import identity

COLUMNS = ("run_id", "row", "model", "seed", "status", "of", "asked", "used", "pace", "step", "minutes", "accuracy")
LOOKS = (0.25, 0.5, 1.0)  # shares of the minutes after which the best accuracy so far is told
NEVER = float("inf")


@dataclass(frozen=True)
class Learnt:
    """Of a model on an exam, medians over seeds. best: accuracies on valid, the best so far after LOOKS of the minutes;
    null before the first evaluation. to_floor: minutes until it was at the best rule that is blind to long range;
    infinite if it never was, null where no rule is known."""

    best: tuple[float | None, ...]
    to_floor: float | None


@dataclass(frozen=True)
class Race:
    """What the runs of one group had. of: "core" or "device". used: the least and the most. cells: (model, row)."""

    of: str
    asked: float
    used: tuple[float, float] | None
    paces: int  # at how many their minutes are counted
    cells: Mapping[tuple[str, str], Learnt]


def rows(r: Record) -> list[tuple[Any, ...]]:
    """COLUMNS of each evaluation of a run that was asked for by minutes; else nothing."""
    told = r.minutes
    if r.kind != "model" or not told:
        return []
    ends = [rung["steps"] for rung in r.ladder] or [r.steps_budget or 0]
    out = []
    for point in r.curve:
        step, seconds = point["step"], point.get("seconds" if told["of"] == "device" else "core_seconds")
        if not step or seconds is None:
            continue
        if told.get("pace"):
            seconds *= (r.training.get("pace") or told["pace_of_steps"]) / told["pace"]
        minutes = seconds / 60 * sum(min(step, end) for end in ends) / step
        fixed = told["of"], told["asked"], told.get("used"), told.get("pace")
        name = " ".join([r.model, *identity.departures(r.variant)])
        out.append((r.run_id, r.row, name, r.seed, r.status, *fixed, step, minutes, point.get("valid_accuracy")))
    return out


def frame(found: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A row an evaluation, `minutes` at the pace that they are counted at."""
    return pd.DataFrame(found, columns=COLUMNS).astype({"accuracy": float, "minutes": float, "asked": float})


Floors = Mapping[tuple[str, str], tuple[str, float]]


def raced(points: pd.DataFrame, cells: pd.DataFrame, floors: Floors) -> Race | None:
    """Of the cells of one group; null where none was asked for by minutes. floors: `lra.marks.runs.local_floors`."""
    points = points[points.accuracy.notna()]
    own = points[points.run_id.isin({run for ids in cells.run_ids for run in ids})]
    if own.empty:
        return None
    by_run = dict(list(own.groupby("run_id")))
    found = {}
    for cell in cells.itertuples():
        _, floor = floors.get((cell.row, cell.fingerprint), (None, None))
        each = [learnt(by_run[run], floor) for run in cell.run_ids if run in by_run]
        if each:
            found[cell.model, cell.row] = together(each)
    usual = own[own.model.isin(cells.model[~cells.variant.astype(bool)])]
    usual = usual if len(usual) else own
    used = usual.used.dropna()
    spread = (float(used.min()), float(used.max())) if len(used) else None
    return Race(usual.of.iloc[0], float(usual.asked.iloc[0]), spread, usual.pace.dropna().nunique(), found)


def learnt(points: pd.DataFrame, floor: float | None) -> Learnt:
    """Of one run."""
    points = points.sort_values("minutes")
    at, best = points.minutes.to_numpy(), np.maximum.accumulate(points.accuracy.to_numpy())
    asked = points.asked.iloc[0]
    # The last evaluation belongs to the minutes, whether they were a little more or less than asked.
    ends = [NEVER if share == 1 else share * asked for share in LOOKS]
    seen = [float(best[at <= end][-1]) if (at <= end).any() else None for end in ends]
    to_floor = None if floor is None else float(min(at[best >= floor], default=NEVER))
    return Learnt(tuple(seen), to_floor)


def together(seeds: Sequence[Learnt]) -> Learnt:
    best = []
    for values in zip(*(seed.best for seed in seeds), strict=True):
        known = [value for value in values if value is not None]
        best.append(median(known) if len(known) == len(values) else None)
    reached = sorted(seed.to_floor for seed in seeds if seed.to_floor is not None)
    return Learnt(tuple(best), reached[(len(reached) - 1) // 2] if reached else None)
