"""Bubbles of trained models and of what was made of them, joined by arrows, a panel an exam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lra.plot import labels, style
from lra.plot.bubble import UNITS, log_ticks, size_legend

COLUMNS = 2
PANEL = (4.6, 3.6)
LARGEST = 900.0  # points^2


@style.drawn
def treated(points: pd.DataFrame, title: str, notes: Iterable[str] = (), dark: bool = False) -> Figure:
    """Accuracy over inference examples per second, area for the peak of inference; parents solid, children hollow, an
    arrow from one to the other. points: lra.marks.derived.places of one budget, machine and precision."""
    page = style.DARK if dark else style.LIGHT
    page.begin()
    looks = style.looks(points.model)
    rows = sorted(points["row"].unique())
    told = [
        "Solid: as it was trained. Hollow: what was made of it; an arrow leads from one to the other. Speeds and peaks"
        " of a child are its ratios to its parent, measured in turns, times the parent's. Options that are only"
        " imitated have none, and are not drawn."
    ]
    figure, panels = style.sheet(len(rows), COLUMNS, PANEL, (0.68, 0.3, 1.0), title, [*told, *notes])
    for axes, row in zip(panels, rows, strict=False):
        _panel(axes, points[points["row"] == row].reset_index(drop=True), looks, page)
        axes.set_title(row, loc="left")
        axes.set_xlabel("inference, examples/s at the run's batch, log scale")
        axes.set_ylabel("test accuracy, %")
    return figure


def _panel(axes: Any, points: pd.DataFrame, looks: dict[str, style.Look], page: style.Page) -> None:
    largest = points.peak_bytes.max()
    colours = [page.look(looks[name]).colour for name in points.model]
    sizes = (LARGEST / largest * points.peak_bytes).to_numpy(float)
    places = np.column_stack([points.speed, 100 * points.accuracy]).astype(float)
    axes.set_xscale("log")
    for axis, values in ((0, np.log10(places[:, 0])), (1, places[:, 1])):
        pad = 0.22 * max(np.ptp(values), 0.3 if axis == 0 else 2.0)
        low, high = values.min() - pad, values.max() + pad
        axes.set_xlim(10**low, 10**high) if axis == 0 else axes.set_ylim(low, high)
    log_ticks(axes.xaxis, axes.get_xlim(), "{}")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    faces = [(c, 0.55) if pd.isna(p) else "none" for c, p in zip(colours, points.parent, strict=True)]
    axes.scatter(*places.T, s=sizes, facecolors=faces, edgecolors=colours, linewidths=1.2, zorder=2)
    where = {name: i for i, name in enumerate(points.id)}
    for i, parent in enumerate(points.parent):
        if parent in where:
            ends = {"shrinkA": 0, "shrinkB": 0.5 * sizes[i] ** 0.5}
            look = {"arrowstyle": "-|>", "color": colours[i], "linewidth": 0.9, **ends}
            axes.annotate("", places[i], places[where[parent]], arrowprops=look, zorder=3)
    unit = next((name, size) for name, size, least in UNITS["memory"] if largest >= least)
    size_legend(axes, largest, LARGEST / largest, unit, "inference peak", page)
    radius = np.sqrt(sizes / np.pi) * axes.figure.dpi / 72
    nothing = np.empty((0, 3))
    labels.beside_points(
        axes, places, list(points.name), radius, nothing, style.SMALL, page.ink, page.soft, behind=page.paper
    )
