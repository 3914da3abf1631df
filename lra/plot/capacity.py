"""How much a model holds, over the floats of state that it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lra.marks import abilities
from lra.marks.capacity import LEVEL, Capacity
from lra.plot import labels, style

WIDTH, HEIGHT = 5.2, 3.6  # of a panel, inches


@style.drawn
def capacity(
    cells: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
    dark: bool = False,
) -> Figure:
    """Both axes logarithmic, a point a model with its 95 % interval, a panel an exam; cells of `lra.marks.abilities` of
    one group with a capacity in pairs. A triangle points to where a capacity lies that is beyond all that was asked.
    What keeps no state in floats, or does not say it, stands in the notes. `dark`: for a dark page."""
    page, looks = style.DARK if dark else style.LIGHT, looks or style.looks(cells.model)
    page.begin()
    rows, _ = abilities.ordered(cells)
    told = [
        f"Capacity: where s falls to {LEVEL:g} on the way to more pairs. Lines: 95 % intervals over"
        " seeds and sequences. Triangles: beyond, or below, all that was asked. State: of all layers, both directions."
    ]
    if without := [c.model for c in abilities.each(cells) if not c.state_floats]:
        told.append(f"Without a state in floats: {style.listed(sorted(set(without)))}.")
    figure, panels = style.sheet(len(rows), 2, (WIDTH, HEIGHT), (0.75, 0.35, 0.5), title, [*told, *notes])
    exams = dict(zip(cells["row"], cells.exam, strict=True))
    for axes, row in zip(panels, rows, strict=True):
        own = [c for c in abilities.each(cells[cells["row"] == row]) if c.state_floats]
        _panel(axes, own, looks, page)
        axes.set_title(exams[row].heading(row), loc="left")
    return figure


def _panel(axes: Any, cells: list[Any], looks: dict[str, style.Look], page: style.Page) -> None:
    if not cells:
        style.empty(axes)
        return
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    points = []
    for cell in cells:
        x, (y, low, high, marker) = float(cell.state_floats), _drawn(cell.capacity)
        look = page.look(looks[cell.model])
        axes.plot([x, x], [low, high], color=look.colour, linewidth=1.2, solid_capstyle="butt", zorder=2)
        axes.plot(x, y, marker or look.marker, color=look.colour, markersize=6 if marker else 5, zorder=3)
        points.append((x, y, low, high))
    values = np.array(points)
    span = values[:, 1:].min(), values[:, 1:].max()
    axes.set_xlim(values[:, 0].min() / 2, values[:, 0].max() * 2)
    axes.set_ylim(span[0] / 1.6, span[1] * 1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set_xlabel("floats of state")
    axes.set_ylabel("capacity, pairs")
    _names(axes, [c.model for c in cells], values, page)


def _drawn(found: Capacity) -> tuple[float, float, float, str | None]:
    """Where a capacity is drawn, the ends of its line, and a marker of its own if it is out of what was asked."""
    y, marker = found.at, "^" if found.beyond is not None else "v" if found.below is not None else None
    return y, y if marker == "v" else found.low or y, y if marker == "^" else found.high or y, marker


def _names(axes: Any, names: list[str], points: np.ndarray, page: style.Page) -> None:
    """Beside the points, off the intervals too."""
    lines = [(x, low * (high / low) ** (i / 6)) for x, _, low, high in points for i in range(7) if high > low]
    along = axes.transData.transform(lines) if lines else np.empty((0, 2))
    others = np.column_stack([along, np.ones(len(along))])
    radius = 4 * axes.figure.dpi / 72
    labels.beside_points(axes, points[:, :2], names, radius, others, style.SMALL, page.ink, page.soft)
