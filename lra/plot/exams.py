"""A panel a task: accuracies with intervals among the floors, and learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lra.plot import labels, style

COLUMNS = 3
WIDTH = 2.6  # of a panel, inches


@style.drawn
def accuracy(
    cells: pd.DataFrame,
    floors: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    order: Callable[[str], Any] | None = None,
) -> Figure:
    """Test accuracy by task, the best on top, floors in grey among the models.

    cells    as `lra.marks.cells` gives of one group: row, model, accuracy, low, high (95 %), items,
             seeds, status
    floors   as `lra.marks.runs.floors` on the same data: row, model, accuracy, local
    A broken line marks the best floor that is blind to long-range structure: below it, no such
    structure has been shown to be used.
    """
    looks = looks or style.looks(cells.model)
    rows = sorted(cells.row.unique(), key=order)
    most = max((len(cells[cells.row == r]) + len(floors[floors.row == r]) for r in rows), default=1)
    told = [*_accuracy_notes(cells, rows), *notes]
    names = [*cells.model, *(_floor_name(f) for f in floors.model)]
    left = max([1.35, *(0.15 + style.text_width(n, style.SMALL - 0.5) for n in names)])
    right = max([0.15, *(0.05 + style.text_width(r, style.NORMAL + 1) - WIDTH for r in rows)])
    figure, panels = style.sheet(len(rows), COLUMNS, (WIDTH, 0.3 + 0.165 * most), (left, right, 0.5), title, told)
    for axes, row in zip(panels, rows, strict=False):
        _ranking(axes, cells[cells.row == row], floors[floors.row == row], looks)
        axes.set_title(row, loc="left")
    return figure


@style.drawn
def curves(
    points: pd.DataFrame,
    floors: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    order: Callable[[str], Any] | None = None,
) -> Figure:
    """Validation accuracy over training steps: mean over seeds, and their range as a band.

    points   row, model, seed, step, valid_accuracy, status of the run
    floors   as for `accuracy`; scored on test, shown for orientation
    """
    looks = looks or style.looks(points.model)
    rows = sorted(points.row.unique(), key=order)
    told = ["Beside each name: the last validation accuracy, %. Broken line: best floor blind to long-range structure."]
    told += ["Bands: range over seeds."] * bool((points.groupby(["row", "model"]).seed.nunique() > 1).any())
    told += ["x: training diverged there."] * bool((points.status == "diverged").any())
    figure, panels = style.sheet(len(rows), COLUMNS, (WIDTH, 2.7), (0.6, 1.45, 0.5), title, [*told, *notes])
    ends = []
    for axes, row in zip(panels, rows, strict=False):
        ends.append(_learning(axes, points[points.row == row], looks))
        _best_local(axes.axhline, floors[floors.row == row])
        axes.set_title(row, loc="left")
    for axes, own in zip(panels, ends, strict=False):
        labels.at_ends(axes, own, style.SMALL - 0.5)
    return figure


def _ranking(axes: Any, cells: pd.DataFrame, floors: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    known = cells[cells.accuracy.notna()]
    entries = [(c.accuracy, c.model, c) for c in known.itertuples()]
    entries += [(f.accuracy, _floor_name(f.model), None) for f in floors.itertuples()]
    first, last = _span(known, floors)
    failed = sorted(cells[cells.accuracy.isna()].itertuples(), key=lambda c: c.model, reverse=True)
    names = [c.model for c in failed]
    for y, (value, name, cell) in enumerate(sorted(entries, key=lambda e: e[:2]), start=len(failed)):
        names.append(name)
        if cell is None:
            _floor(axes, 100 * value, y, first, last)
            continue
        look = looks[name]
        axes.plot([100 * cell.low, 100 * cell.high], [y, y], color=look.colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(100 * value, y, look.marker, color=look.colour, markersize=4.5)
    for y, cell in enumerate(failed):
        axes.text(
            0.02, y, style.said(cell.status), transform=axes.get_yaxis_transform(), va="center",
            fontsize=style.SMALL - 0.5, color="0.35", style="italic",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    _best_local(axes.axvline, floors)
    axes.set_yticks(range(len(names)), names, fontsize=style.SMALL - 0.5)
    for tick in axes.get_yticklabels():
        if tick.get_text().startswith("floor: "):
            tick.set_color(style.GREY)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(first, last)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"test accuracy, % ({_about(known)})" if len(known) else "test accuracy, %")


def _floor_name(rule: str) -> str:
    return f"floor: {rule}"


def _span(known: pd.DataFrame, floors: pd.DataFrame) -> tuple[float, float]:
    """Limits in % that hold the models' intervals and the best local floor, and other floors not far off:
    one at 97 % would push models at 40 % into a corner."""
    shown = [100 * v for v in (*known.low, *known.high, *known.accuracy, *_local(floors)) if pd.notna(v)]
    if not shown:
        shown = [100 * v for v in floors.accuracy] or [0.0, 100.0]
    low, high = min(shown), max(shown)
    reach = max(high - low, 4.0)
    near = [100 * v for v in floors.accuracy if low - reach / 2 <= 100 * v <= high + reach / 2]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.06 * max(high - low, 4.0)
    return low - pad, high + pad


def _floor(axes: Any, value: float, y: int, first: float, last: float) -> None:
    """A tick, or at the edge an arrow and the number of a floor that is far outside."""
    if first <= value <= last:
        axes.plot(value, y, "|", color=style.GREY, markersize=9, markeredgewidth=2)
        return
    right = value > last
    place = {"transform": axes.get_yaxis_transform(), "color": style.GREY}
    axes.plot(0.98 if right else 0.02, y, ">" if right else "<", markersize=5, **place)
    axes.text(
        0.95 if right else 0.05, y, f"{value:.1f}", va="center", ha="right" if right else "left", **place,
        fontsize=style.SMALL - 0.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _local(floors: pd.DataFrame) -> list[float]:
    """Accuracy of the best floor that is blind to long-range structure, if there is one."""
    local = floors[floors.local.eq(True)]
    return [float(local.accuracy.max())] if len(local) else []


def _best_local(line: Callable[..., Any], floors: pd.DataFrame) -> None:
    for best in _local(floors):
        line(100 * best, color=style.GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)


def _learning(axes: Any, points: pd.DataFrame, looks: dict[str, style.Look]) -> list[tuple[float, float, str, str]]:
    """Draw one panel; the ends of its curves with their names."""
    ends = []
    points = points[points.valid_accuracy.notna()]
    for name, own in points.groupby("model", sort=True):
        look = looks[name]
        steps = (100 * own.set_index("step").valid_accuracy).groupby(level=0).agg(["mean", "min", "max", "count"])
        steps = steps[steps["count"] == steps["count"].max()]  # a mean over fewer seeds would make a step in the curve
        axes.plot(
            steps.index, steps["mean"], color=look.colour, linestyle=look.line, marker=look.marker, markersize=3,
            linewidth=1.2,
        )  # fmt: skip
        if steps["count"].max() > 1:
            axes.fill_between(steps.index, steps["min"], steps["max"], color=look.colour, alpha=0.15, linewidth=0)
        last = (float(steps.index[-1]), float(steps["mean"].iloc[-1]))
        if (own.status == "diverged").any():
            axes.plot(*last, "x", color=look.colour, markersize=8, markeredgewidth=1.6, zorder=5)
        ends.append((*last, f"{name} {last[1]:.1f}", look.colour))
    axes.set_xlabel("training step")
    axes.set_ylabel("validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    return ends


def _about(known: pd.DataFrame) -> str:
    low, high = int(known.seeds.min()), int(known.seeds.max())
    seeds = f"{low} seed{'s' * (low > 1)}" if low == high else f"{low} to {high} seeds"
    return f"{int(known['items'].max()):,} items, {seeds}"


def _accuracy_notes(cells: pd.DataFrame, rows: Sequence[str]) -> list[str]:
    notes = [
        "Lines: 95 % intervals. Grey ticks, or arrows where far off: floors; "
        "broken line: the best on record of those blind to long-range structure."
    ]
    missing = len(rows) * cells.model.nunique() - len(cells.drop_duplicates(["row", "model"]))
    if missing:
        notes.append(f"Partial: {missing} of {len(rows) * cells.model.nunique()} cells not run.")
    return notes
