"""Accuracy, speed and memory over one setting: what a sweep over a hyperparameter has found.

    python -m lra.plot over=model.mixer.features [task=listops model=performer …]

A figure for each exam, budget and precision in which the setting has two values or more, and a table of all. Speed and
memory are those of one machine, which has measured most of these runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lra import console
from lra.errors import UserError, nearest
from lra.marks.cells import COSTS, costed
from lra.marks.query import Query, called
from lra.marks.runs import GROUP, titled
from lra.plot import labels, style
from lra.plot.places import COMMAND, FOLDER, slug
from lra.results import Results
from lra.settings import compose
from lra.settings.typed import plain
from lra.settings.words import taken

OVER = "over"
PANEL = (2.7, 2.5)
WIDE = 4  # from the least value to the largest, above which an axis is one of doublings
# column, what stands at the axis, from the column to what is shown
PANELS = (
    ("accuracy", "test accuracy, %", 100.0),
    ("examples_per_second", "training examples/s", 1.0),
    ("step_peak_bytes", "step peak memory, MiB", 2.0**-20),
)
COLUMNS = (
    "row", "budget", "machine", "dtype", "model", "value", "timed", "seeds", "failed", "status", "accuracy", "low",
    "high", "examples_per_second", "step_peak_bytes", "parameters",
)  # fmt: skip


def asked(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The setting that `over=` names, null without; and the other words."""
    given, rest = taken(words, (OVER,))
    return given.get(OVER), rest


def found(results: Results, key: str) -> pd.DataFrame:
    """COLUMNS of each cell in which the setting has a value, with `model` less that word; of those that say none the
    budget's own. UserError where there are no two values of one model on one exam."""
    table, costs = results.every_exam
    sign, rows = f"{key}=", []
    for cell in table.itertuples():
        name, *words = cell.model.split(" ")
        said = [word.removeprefix(sign) for word in words if word.startswith(sign)]
        others = " ".join([name, *(word for word in words if not word.startswith(sign))])
        rows.append(cell._asdict() | {"model": others, "value": said[0] if said else None})
    out = pd.DataFrame(rows, columns=COLUMNS, index=table.index)
    curve = ["row", *GROUP, "model"]
    out = out[out.groupby(curve).value.transform(lambda own: own.notna().any()).astype(bool)] if len(out) else out
    for i, cell in out[out.value.isna()].iterrows():
        task, (name, *words) = table[table["row"] == cell["row"]].task.iloc[0], cell.model.split(" ")
        typed = [f"task={task}", f"budget={cell.budget}", f"model={name}", *words]
        out.loc[i, "value"] = usual(key, typed, results.config_dir)
    out = out.dropna(subset=["value"])
    if out.empty or not (out.groupby(curve).value.nunique() > 1).any():
        known = sorted({w.partition("=")[0] for m in table.model for w in m.split(" ")[1:]})
        told = f"recorded with other values: {', '.join(known) or 'nothing'}"
        raise UserError(f"over: no model has two values of {key} on one exam; {told}.{nearest(key, known)}")
    out = out[out.groupby(curve).value.transform("nunique") > 1]
    costs = timed(table.loc[out.index], costs, results.chosen)
    return out.assign(**{name: costs[name] for name in ("timed", *COSTS) if name in out})


def timed(cells: pd.DataFrame, costs: pd.DataFrame, chosen: Query) -> pd.DataFrame:
    """Cells with the costs of the machine that has most of them, of those that are chosen if any are."""
    own = ["budget", "dtype", "row", "model"]
    there = pd.MultiIndex.from_frame(costs[own]).isin(pd.MultiIndex.from_frame(cells[own]))
    of = (lambda name: chosen.place("machine", name) < len(chosen.machine)) if chosen.machine else None
    return costed(cells, costs[there], of)


def usual(key: str, words: Sequence[str], config_dir: Path | None = None) -> str | None:
    """What a run has that says nothing of the setting, as it is typed; null where it has no such setting."""
    try:
        node: Any = plain(compose.config(words, config_dir))
    except UserError:  # a model of somebody else's
        return None
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return "null" if node is None else str(node).lower() if isinstance(node, bool) else str(node)


def places(values: Sequence[str]) -> tuple[dict[str, float], bool]:
    """Where each value stands on the axis, and whether it is a number there."""
    try:
        numbers = {value: float(value) for value in values}
    except ValueError:
        return {value: float(i) for i, value in enumerate(dict.fromkeys(values))}, False
    return numbers, True


def figures(table: pd.DataFrame, key: str) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of each exam and group, for light pages and for dark ones."""
    for (row, *group), own in table.groupby(["row", *GROUP], sort=True):
        budget, machine, dtype = group
        names = own.model.str.split(" ")
        shared = [word for word in names.iloc[0][1:] if all(word in each for each in names)]
        own = own.assign(model=[" ".join(word for word in each if word not in shared) for each in names])
        own = own.assign(model=own.model.map(called(own.model)))
        looks = style.looks(own.model)
        title = " ".join([f"{row} over {key}: {titled(budget, machine, dtype)}", *shared])
        for shade, dark in (("", False), ("-dark", True)):
            name = slug(f"over-{key}-{row}-{budget}-{machine}-{dtype}")
            yield f"{name}{shade}", drawn(own, key, title, looks, dark)


@style.drawn
def drawn(table: pd.DataFrame, key: str, title: str, looks: dict[str, style.Look], dark: bool = False) -> Figure:
    """One panel each for accuracy, rate and memory; a curve a model."""
    page = style.DARK if dark else style.LIGHT
    page.begin()
    at, numbers = places(sorted(table.value.unique(), key=_order))
    failed = [f"{c.model} at {c.value} ({style.said(c.status)})" for c in table[table.accuracy.isna()].itertuples()]
    notes = [
        f"Bars: 95 % intervals, over {_seeds(table)}. Speed and memory: of a training step, on {table.timed.iloc[0]}. "
        "Each point is a run of its own, and its choice by these accuracies is one by the test."
    ]
    notes += [f"Without an accuracy: {style.listed(failed)}."] * bool(failed)
    room = max(0.35 + style.text_width(name, style.SMALL - 0.5) for name in table.model.unique())
    figure, panels = style.sheet(len(PANELS), len(PANELS), PANEL, (0.62, room, 0.5), title, notes)
    for axes, (column, label, scale) in zip(panels, PANELS, strict=True):
        ends, top = [], 0.0
        for name, own in table.groupby("model", sort=True):
            own = own.assign(x=own.value.map(at)).sort_values("x").dropna(subset=[column])
            if own.empty:
                continue
            look, x, y = page.look(looks[name]), own.x.to_numpy(float), scale * own[column].to_numpy(float)
            axes.plot(x, y, color=look.colour, linestyle=look.line, linewidth=1.2, marker=look.marker, markersize=4)
            if column == "accuracy":
                low, high = (scale * own[side].to_numpy(float) for side in ("low", "high"))
                axes.vlines(x, low, high, color=look.colour, linewidth=1.0)
            top = max(top, float(y.max()))
            ends.append((float(x[-1]), float(y[-1]), name, look.colour))
        if numbers and min(at.values()) > 0 and max(at.values()) >= WIDE * min(at.values()):
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
        axes.set_xticks(list(at.values()), list(at))
        if column != "accuracy":
            axes.set_ylim(0, 1.08 * top or 1.0)
        axes.set_xlabel(key)
        axes.set_ylabel(label)
        labels.at_ends(axes, ends, style.SMALL - 0.5, page.ink)
    return figure


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), ""
    except ValueError:
        return (-1, 0.0, "") if value == "null" else (1, 0.0, value)


def _seeds(table: pd.DataFrame) -> str:
    seeds = table.seeds[table.seeds > 0]
    least, most = (int(seeds.min()), int(seeds.max())) if len(seeds) else (0, 0)
    return f"{least if least == most else f'{least} to {most}'} seed{'s' * (most != 1)}"


def written(table: pd.DataFrame, key: str, words: Sequence[str] = ()) -> dict[str, bytes]:
    """Path below the results folder -> content: the figures, and one table of all. words: of the choice, which each
    carries with the setting."""
    command = shlex.join([*COMMAND.split(), f"{OVER}={key}", *words])
    out = {
        f"{FOLDER}/{name}.{kind}": style.image(figure, kind, command)
        for name, figure in figures(table, key)
        for kind in ("png", "svg")
    }
    shown = ordered(table).rename(columns={"value": key}).assign(command=command)
    return out | {f"{FOLDER}/{slug(f'over-{key}')}.csv": shown.to_csv(index=False, lineterminator="\n").encode()}


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By exam, group, model and value."""
    places = table.value.map(_order)
    sorted_ = table.assign(number=places.str[1], text=places.str[2])
    return sorted_.sort_values(["row", *GROUP, "model", "number", "text"])[list(COLUMNS)]


def told(table: pd.DataFrame, key: str) -> str:
    """For a terminal."""
    return console.table(lines(table), [HEAD[0], key, *HEAD[2:]])


def lines(table: pd.DataFrame) -> list[list[str]]:
    """HEAD of each cell."""
    out, names = [], called(table.model)
    for cell in ordered(table).itertuples():
        known = pd.notna(cell.accuracy)
        interval = f"{100 * cell.low:.1f} to {100 * cell.high:.1f}" if known and pd.notna(cell.low) else "-"
        memory = None if pd.isna(cell.step_peak_bytes) else cell.step_peak_bytes
        rate = None if pd.isna(cell.examples_per_second) else cell.examples_per_second
        accuracy = console.percent(cell.accuracy) if known else style.said(cell.status)
        out.append([
            f"{names[cell.model]} on {cell.row}", str(cell.value), str(cell.seeds), accuracy, interval,
            console.rate(rate), console.size(memory),
            f"{int(cell.parameters):,}" if np.isfinite(cell.parameters or np.nan) else "-",
        ])  # fmt: skip
    return out


HEAD = ("run", "value", "seeds", "accuracy", "95 % interval", "examples/s", "step peak", "parameters")
