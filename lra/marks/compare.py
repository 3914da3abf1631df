"""Two models on the same test items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from lra.errors import UserError, nearest
from lra.marks import stats
from lra.record.answers import Answers

COLUMNS = ("row", "a", "b", "difference", "low", "high", "p", "p_holm", "seeds_a", "seeds_b", "items")


def comparisons(
    cells: pd.DataFrame,
    answers: Answers,
    a: str | Sequence[str] | Mapping[str, str],
    b: str | Sequence[str],
    task: str | Sequence[str],
    budget: str,
) -> pd.DataFrame:
    """One row (COLUMNS) for each pair and task: accuracy of `a` less that of `b` as fractions, its 95 %
    interval, the two-sided p of "equally accurate" (lra.marks.stats.compare) and that p after Holm over all rows.

    a: of each task another, where it is a mapping. cells, answers: of lra.results. Raises UserError naming what is not
    there.
    """
    names_a, names_b, tasks = ([x] if isinstance(x, str) else list(x) for x in (a, b, task))
    rows = []
    pairs: Iterable[tuple[str, str, str]] = product(tasks, names_a, names_b)
    if isinstance(a, Mapping):
        pairs = ((exam, a[exam], second) for exam in tasks for second in names_b)
    for exam, first, second in pairs:
        one, other = (_cell(cells, exam, name, budget) for name in (first, second))
        mine, theirs = answers.right(one.answers), answers.right(other.answers)
        same = mine is not None and theirs is not None and mine.shape[-1] == theirs.shape[-1]
        if not same or one.fingerprint != other.fingerprint or one["row"] != other["row"]:
            raise UserError(f"{exam}: {first} and {second} have no stored answers on the same test items")
        apart = stats.difference(mine, theirs)
        low, high = map(float, apart.interval())
        p = float(stats.compare(mine, theirs, apart))
        counts = len(mine), len(theirs), mine.shape[-1]
        rows.append([one["row"], first, second, float(apart.value), low, high, p, np.nan, *counts])
    out = pd.DataFrame(rows, columns=COLUMNS)
    out["p_holm"] = stats.holm(out.p.to_numpy(float)) if len(out) else []
    return out


RATIOS = ("a", "b", "where", "speed", "memory", "machine", "how")


def ratios(timed: pd.DataFrame, points: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """RATIOS of the costs of `a` to those of `b` of each line of `comparisons`, one for each machine that has measured
    both: training steps per second and peak bytes. In turns, of a cost sweep at the greatest length that both have; and
    as measured before the runs, each by itself."""
    rows = []
    for a, b in dict.fromkeys(zip(compared.a, compared.b, strict=True)):
        some = points[(points["mode"] == "fixed") & (points.phase == "train") & (points.status == "ok")]
        both = some[some.model == a].merge(some[some.model == b], on=[*SAME, "sweep", "length"], suffixes=("", "_b"))
        for machine, own in both.groupby("machine"):
            last = own.sort_values(["length", "run_id"]).iloc[-1]
            where = f"{last.task}, length {last.length:,}, batch {last.batch_size}"
            speed, memory = last.seconds_median_b / last.seconds_median, last.step_peak_bytes / last.step_peak_bytes_b
            rows.append((a, b, where, speed, memory, machine, "in turns"))
    for line in compared.itertuples():
        here = timed[(timed["row"] == line.row) & timed.examples_per_second.notna()]
        both = here[here.model == line.a].merge(here[here.model == line.b], on=["budget", "machine", "dtype"])
        for r in both.itertuples():
            speed, memory = r.examples_per_second_x / r.examples_per_second_y, r.step_peak_bytes_x / r.step_peak_bytes_y
            rows.append((line.a, line.b, f"{line.row}, {r.budget}", speed, memory, r.machine, "apart"))
    return pd.DataFrame(rows, columns=RATIOS)


SAME = ["task", "budget", "machine", "dtype", "threads", "batch_size"]


def _cell(cells: pd.DataFrame, exam: str, model: str, budget: str) -> pd.Series:
    """The one cell of a model on a task or a row of one; of several machines the one with most seeds."""
    here = cells[(cells.budget == budget) & ((cells.task == exam) | (cells["row"] == exam)) & (cells.seeds > 0)]
    found = here[here.model == model].sort_values("seeds", kind="stable")
    if found.empty:
        known = here.model.unique()
        raise UserError(f"{model}: no finished run on {exam} at budget={budget}.{nearest(model, known)}")
    return found.iloc[-1]
