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
APART = 2**0.5  # from an octave's start to its middle


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
    if found.value is None:
        up = found.beyond is not None
        y = found.beyond * APART if up else found.below / APART
        return y, (found.low or y) if up else y, y if up else (found.high or y), "^" if up else "v"
    return found.value, found.low or found.value, found.high or found.value, None


def _names(axes: Any, names: list[str], points: np.ndarray, page: style.Page) -> None:
    """Beside the points, off one another and off the intervals, joined by a line where they are far off."""
    renderer, pixel = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    middle = axes.transData.transform(points[:, :2])
    look = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": style.SMALL, "color": page.ink}
    texts = [axes.annotate(n, xy, xytext=(0, 0), **look) for n, xy in zip(names, points[:, :2], strict=True)]
    sizes = np.array([[b.width, b.height] for b in (t.get_window_extent(renderer) for t in texts)])
    lines = [(x, low * (high / low) ** (i / 6)) for x, _, low, high in points for i in range(7) if high > low]
    discs = np.column_stack([middle, np.full(len(middle), 4 * pixel)])
    if lines:
        along = axes.transData.transform(lines)
        discs = np.concatenate([discs, np.column_stack([along, np.ones(len(along))])])
    box = axes.get_window_extent()
    places = labels.beside(discs, sizes, (box.x0 + 3, box.y0 + 3, box.x1 - 3, box.y1 - 3))
    for text, place, point, half in zip(texts, places, middle, sizes / 2, strict=True):
        text.set_position(tuple((place - point) / pixel))
        edge = point.clip(place - half, place + half)
        if np.hypot(*(edge - point)) > 14:
            ends = axes.transData.inverted().transform([point, edge])
            axes.plot(*ends.T, color=page.soft, linewidth=0.6, zorder=1.6)
