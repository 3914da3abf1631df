"""Accuracy over the minutes of a race, a panel an exam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lra.plot import labels, style

COLUMNS = 2
PANEL = (3.6, 3.1)


@style.drawn
def race(
    points: pd.DataFrame,
    floors: Mapping[str, float],
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    order: Callable[[str], Any] | None = None,
    dark: bool = False,
) -> Figure:
    """Validation accuracy over minutes of training, all learning rates together: the mean over seeds at each step.

    points: lra.marks.race.COLUMNS of the runs of one group. floors: row -> accuracy of the best rule that is blind to
    long-range structure. dark: for a dark page.
    """
    page = style.DARK if dark else style.LIGHT
    page.begin()
    looks = looks or style.looks(points.model)
    rows = sorted(points.row.unique(), key=order)
    of = points.of.iloc[0] if len(points) else "core"
    told = [
        f"Minutes are {of}-minutes of training, all learning rates of a run together. Beside each name: the last"
        " accuracy on valid, %. Broken line: the best rule blind to long-range structure (on test)."
    ]
    told += ["Curves: mean over seeds."] * bool((points.groupby(["row", "model"]).seed.nunique() > 1).any())
    right = max([1.0, *(0.35 + style.text_width(f"{name} 00.0", style.SMALL - 0.5) for name in points.model.unique())])
    figure, panels = style.sheet(len(rows), COLUMNS, PANEL, (0.6, right, 0.5), title, [*told, *notes])
    ends = []
    for axes, row in zip(panels, rows, strict=False):
        ends.append(_panel(axes, points[points.row == row], looks, page))
        if row in floors:
            axes.axhline(100 * floors[row], color=page.soft, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_title(row, loc="left")
        axes.set_xlabel(f"{of}-minutes of training")
        axes.set_ylabel("validation accuracy, %")
    for axes, own in zip(panels, ends, strict=False):
        labels.at_ends(axes, own, style.SMALL - 0.5, page.ink)
    return figure


def _panel(axes: Any, points: pd.DataFrame, looks: dict[str, style.Look], page: style.Page) -> list[Any]:
    """The ends of the curves with their names."""
    ends = []
    for name, own in points[points.accuracy.notna()].groupby("model", sort=True):
        look = page.look(looks[name])
        x, y = mean_curve(own)
        axes.plot(x, 100 * y, color=look.colour, linestyle=look.line, linewidth=1.2, marker=look.marker, markersize=2.6)
        if len(x):
            ends.append((float(x[-1]), float(100 * y[-1]), f"{name} {100 * y[-1]:.1f}", look.colour))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    return ends


def mean_curve(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and accuracy (N,) of one model, mean over its seeds at the minutes of the first, as far as all of them
    were seen: seeds have other steps, because these were counted for each."""
    each = [own.sort_values("minutes") for _, own in points.groupby("seed", sort=True)]
    first, end = max(o.minutes.iloc[0] for o in each), min(o.minutes.iloc[-1] for o in each)
    at = each[0].minutes.to_numpy()
    at = at[(at >= first) & (at <= end)]
    at = at if len(at) else np.array([end])
    return at, np.mean([np.interp(at, o.minutes, o.accuracy) for o in each], axis=0)
