"""The score of models along one quantity: how far back they reach, and other lengths than the trained one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lra.marks import abilities
from lra.plot import labels, style

WIDTH = 4.2  # of a panel, inches
LEAST, EACH = 2.6, 0.135  # of its height: at least, and for each name at its side
COLUMNS = 2
SHOWN = 8  # cells that a note lists


@dataclass(frozen=True)
class Curve:
    """x ascending, y with its range or without; mark: a place on it that is pointed out."""

    model: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    mark: float | None = None


@style.drawn
def reach(
    cells: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    dark: bool = False,
) -> Figure:
    """Accuracy by octave of distance, a line a model, a panel an exam; of cells of `lra.marks.abilities` of one group
    with a reach. A bar across a line: where the model's Jacobian ends. `dark`: for a dark page."""
    told = [
        "Mean accuracy over seeds of the answers an octave of distance from what they ask for. Bar across a line: where"
        " the Jacobian of the model as it starts ends; a line without one sees all. Broken line: the exam's floor."
    ]
    unknown = [f"{c.model} on {c.exam.heading(c.row)}" for c in abilities.each(cells) if c.sight is None]
    told += [f"Jacobian not on record: {style.listed(unknown, SHOWN)}."] * bool(unknown)

    def curve(cell: Any) -> Curve:
        firsts = [int(kind.split(" ")[1]) for kind in cell.kinds]
        y = [100 * accuracy for accuracy in cell.kinds.values()]
        seen = cell.sight
        mark = None if seen is None or seen.beyond is not None else seen.value or float(seen.below)
        return Curve(cell.model, [first * 2**0.5 for first in firsts], y, mark=mark)

    axes = {"xlabel": "distance, tokens", "ylabel": "accuracy, %"}
    return _figure(cells, curve, title, [*told, *notes], looks, dark, axes, lambda cell: 100 * cell.floor)


@style.drawn
def twins(
    cells: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    dark: bool = False,
) -> Figure:
    """s over length, a line a model, a panel an exam; of cells with length twins. A bar across a line: the length that
    was trained at. `dark`: for a dark page."""
    told = [
        "Mean s over seeds of one trained model, at the length that it was trained at (bar across the line) and at"
        " others. Bands: range over seeds."
    ]
    refused = [
        f"{c.model} on {c.exam.heading(c.row)} at {t.length:,} ({t.refused})"
        for c in abilities.each(cells)
        for t in c.twins
        if t.refused
    ]
    told += [f"Refused: {style.listed(refused, SHOWN)}."] * bool(refused)

    def curve(cell: Any) -> Curve:
        known = [t for t in cell.twins if t.score is not None]
        x, y, low, high = ([getattr(t, n) for t in known] for n in ("length", "score", "low", "high"))
        return Curve(cell.model, x, y, low, high, next((float(t.length) for t in known if t.trained), None))

    axes = {"xlabel": "length, tokens", "ylabel": "s"}
    return _figure(cells, curve, title, [*told, *notes], looks, dark, axes, lambda cell: 0.0)


def _figure(
    cells: pd.DataFrame,
    curve: Any,
    title: str,
    notes: list[str],
    looks: dict[str, style.Look] | None,
    dark: bool,
    words: dict[str, str],
    floor: Any,
) -> Figure:
    page, looks = style.DARK if dark else style.LIGHT, looks or style.looks(cells.model)
    page.begin()
    rows, _ = abilities.ordered(cells)
    exams = dict(zip(cells["row"], cells.exam, strict=True))
    own = {row: abilities.each(cells[cells["row"] == row]) for row in rows}
    height = max(LEAST, EACH * max(map(len, own.values())))
    right = 0.35 + max(style.text_width(model, style.SMALL - 0.5) for model in cells.model)
    figure, panels = style.sheet(len(rows), COLUMNS, (WIDTH, height), (0.65, right, 0.5), title, notes)
    for axes, row in zip(panels, rows, strict=True):
        curves = sorted((curve(cell) for cell in own[row]), key=lambda c: c.model)
        ends = [_line(axes, each, page.look(looks[each.model])) for each in curves if len(each.x)]
        axes.axhline(floor(own[row][0]), color=page.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: style.short(value))
        axes.set(**words)
        axes.set_title(exams[row].heading(row), loc="left")
        labels.at_ends(axes, ends, style.SMALL - 0.5, page.ink)
    return figure


def _line(axes: Any, curve: Curve, look: style.Look) -> tuple[float, float, str, str]:
    """Draw it; where it ends, with its name."""
    axes.plot(curve.x, curve.y, color=look.colour, linestyle=look.line, marker=look.marker, markersize=3, linewidth=1.2)
    if curve.low is not None and list(curve.low) != list(curve.high):
        axes.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
    if curve.mark is not None:
        at = float(np.interp(np.log2(curve.mark), np.log2(curve.x), curve.y))
        axes.plot(curve.mark, at, "|", color=look.colour, markersize=13, markeredgewidth=1.8, zorder=4)
    return float(curve.x[-1]), float(curve.y[-1]), curve.model, look.colour
