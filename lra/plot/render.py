"""Every figure of a results folder, from its records.

For each budget, machine and precision the bubble chart, accuracy by task and learning curves; for each cost
sweep the curves of time and memory. Reads records only, without torch. The same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lra import ledger
from lra.cost import growth
from lra.cost import points as costs
from lra.marks.cells import cells
from lra.marks.exams import task_order
from lra.marks.means import averaged, one_an_exam, standard
from lra.marks.runs import GROUP, REFERENCE, floors, learning, load
from lra.plot import style
from lra.plot.bubble import bubble
from lra.plot.exams import accuracy, curves
from lra.plot.forked import beside
from lra.plot.lengths import cost, throughput
from lra.plot.style import FOLDER, slug

HALVES = ("bubble", "cost", "throughput"), ("curves", "accuracy")  # take about as long to draw
KINDS = HALVES[0] + HALVES[1]
AT = 4096  # the length at which figure 3 of the paper takes speed and memory


def at_length(points: pd.DataFrame, length: int = AT) -> tuple[pd.DataFrame, str] | None:
    """Speed relative to the reference and step peak bytes at one length of a cost sweep, in words on
    what; the sweep with most models at that length counts. None if there is none with the reference."""
    known = costs.curves(points[(points.phase == "train") & (points.length == length)])
    best = costs.widest(known)
    if best is None:
        return None
    best = best.set_index("model")
    speed = best.seconds_median[REFERENCE] / best.seconds_median.astype(float)
    out = pd.DataFrame({"relative_speed": speed, "step_peak_bytes": best.step_peak_bytes.astype(float)})
    return out, f"{best.task.iloc[0]} at {style.short(length)}, batch {best.batch_size.iloc[0]}"


def charted(points: pd.DataFrame, sweep: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Points of one group with the speed and memory of its cost sweep, if that has all of its models;
    else with those of its tasks. In words, which."""
    found = at_length(sweep) if len(sweep) else None
    known = points.dropna(subset=["accuracy", "relative_speed", "step_peak_bytes"]).model
    if found is None or not set(known) <= set(found[0].dropna().index):
        return points, "geometric mean over tasks"
    values = found[0].reindex(points.model).reset_index(drop=True)
    return points.reset_index(drop=True).assign(**{c: values[c] for c in values}), found[1]


def figures(results: str | Path, kinds: Collection[str] = KINDS) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of everything of these kinds that the records of a results folder can show."""
    table, points = load(results), costs.load(results)
    shown = cells(table)
    usual, rules = standard(shown), floors(table)
    summed = averaged(one_an_exam(usual))
    published = ledger.summary(ledger.load(ledger.place(results)))
    looks = style.looks([*shown.model, *points.model])
    for group, part in usual.groupby(GROUP):
        conditions = dict(zip(GROUP, group, strict=True))
        where = "budget {budget}, {machine}, {dtype}".format(**conditions)
        name = slug("{budget}-{machine}-{dtype}".format(**conditions))
        overridden = len(matching(shown, conditions)) - len(part)
        left_out = [f"Not drawn: {overridden} cells of runs with overrides."] * bool(overridden)
        failed = [f"{c.model} on {c.row} ({style.said(c.status)})" for c in part[part.accuracy.isna()].itertuples()]
        unseen = [task for task in ledger.FIVE if not part.row.str.startswith(task).any()]
        left_out += [f"Partial: no run yet of {', '.join(unseen)}."] * bool(unseen)
        lost = [f"Without an accuracy: {style.listed(failed)}."] * bool(failed)
        own, speed = charted(matching(summed, conditions), matching(points, conditions))
        data = dict(zip(part.row, part.fingerprint, strict=True))
        here = rules.loc[[data.get(r) == f for r, f in zip(rules.row, rules.fingerprint, strict=True)]]
        if "bubble" in kinds:
            title = f"Accuracy, speed and memory: {where}"
            yield f"bubble-{name}", bubble(own, title, published, [*lost, *left_out], speed, looks)
        if "accuracy" in kinds:
            title = f"Accuracy by task: {where}"
            yield f"accuracy-{name}", accuracy(part, here, title, left_out, looks, task_order)
        steps = learning(results, {i for ids in part.run_ids for i in ids}) if "curves" in kinds else ()
        if len(steps):
            yield f"curves-{name}", curves(steps, here, f"Learning curves: {where}", left_out, looks, task_order)
    yield from _costs(points, looks, kinds)


def _costs(points: pd.DataFrame, looks: dict[str, style.Look], kinds: Collection[str]) -> Iterator[tuple[str, Figure]]:
    shared = [column for column in costs.GROUP if column != "batch_size"]
    for (mode, *group), part in points.groupby(["mode", *shared], sort=True, dropna=False):
        task, budget, machine, dtype, threads = group
        name = slug(f"{task}-{budget}-{machine}-{dtype}-{threads}-threads")
        words = f"{task}, budget {budget}, {machine}, {dtype}, {threads} thread{'s' * (threads != 1)}"
        if mode == "largest" and "throughput" in kinds:
            best = costs.curves(part, "largest").sort_values("run_id")
            best = best.drop_duplicates(["model", "phase", "length"], keep="last")
            yield f"throughput-{name}", throughput(best, f"Throughput over length: {words}", (), looks)
        for batch, own in part.groupby("batch_size") if mode == "fixed" and "cost" in kinds else ():
            title = f"Cost over length at batch {batch}: {words}"
            drawn, key = costs.curves(own), ["model", "phase", "length"]
            failed = own[own.status != "ok"].drop_duplicates(key, keep="last")
            failed = failed[~pd.MultiIndex.from_frame(failed[key]).isin(pd.MultiIndex.from_frame(drawn[key]))]
            yield (
                f"cost-{name}-batch-{batch}",
                cost(drawn, failed, growth.fits(own), growth.crossing(own), title, (), looks),
            )


def matching(table: pd.DataFrame, conditions: dict[str, Any]) -> pd.DataFrame:
    if table.empty:
        return table
    return table[np.logical_and.reduce([table[column] == value for column, value in conditions.items()])]


def render(results: str | Path) -> dict[str, bytes]:
    """Path below the results folder -> content, of every figure that its records give."""
    first, second = HALVES
    with beside(rendered, results, second) as rest:
        return rendered(results, first) | rest()


def rendered(results: str | Path, kinds: Collection[str]) -> dict[str, bytes]:
    """What `render` gives, of these kinds, drawn by this process."""
    return {
        f"{FOLDER}/{name}.{kind}": style.image(figure, kind)
        for name, figure in figures(results, kinds)
        for kind in ("png", "svg")
    }


def charts(results: str | Path) -> dict[str, bytes]:
    """The bubble charts as SVG: what `lra.plot.render` gives, less all the rest."""
    drawn = figures(results, ("bubble",))
    return {f"{FOLDER}/{name}.svg": style.image(figure, "svg") for name, figure in drawn}


def stale(results: str | Path, drawn: dict[str, bytes]) -> list[Path]:
    """Figures of ours in the folder that the records no longer give."""
    there = (Path(results) / FOLDER).glob("*.*")
    ours = (p for p in there if p.suffix in (".png", ".svg") and p.name.split("-")[0] in KINDS)
    return sorted(p for p in ours if f"{FOLDER}/{p.name}" not in drawn)
