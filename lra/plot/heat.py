"""Models by exams of abilities: how far each has come, how many seeds have learnt it, after how many sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lra.marks import abilities, said
from lra.plot import style

WIDTH, HEIGHT = 0.74, 0.36  # of a cell, inches
GAP = 0.02  # between cells
NARROWEST = 4.0  # so that there is room for notes
LINE = 0.14  # of a heading, inches
# The ground of s = 0, 1/2 and 1, on light and on dark pages: one hue, so that it reads in grey too.
GROUNDS = (("#eef2f5", "#5aa5d1", "#00456d"), ("#1a222c", "#1f6a9c", "#9fd6ff"))


@style.drawn
def heat(cells: pd.DataFrame, title: str, notes: Iterable[str] = (), dark: bool = False) -> Figure:
    """A cell for each model and exam, of cells as `lra.marks.abilities.cells` gives them of one group.

    Ground: median s from 0 to 1. Text: seeds that have learnt the exam of all, bold if each has; below it thousands of
    sequences until half of them had or, if fewer have, s. Those that have learnt most stand on top. Above each exam
    stands what it asks for. `dark`: for a dark page.
    """
    page, ground = style.DARK if dark else style.LIGHT, GROUNDS[dark]
    page.begin()
    ink, soft = page.ink, page.soft
    rows, models = abilities.ordered(cells)
    exams = dict(zip(cells["row"], cells.exam, strict=True))
    heads = [exams[row].heading(row).replace(" (", "\n(").split() for row in rows]
    asks = [exams[row].asks.split() for row in rows]
    deepest = max(map(len, heads))
    above = LINE * (deepest + max(map(len, asks))) - 0.08  # a panel has room for a title above it
    left = max(0.8, *(0.15 + style.text_width(m, style.SMALL) for m in models))
    size = (max(WIDTH * len(rows), NARROWEST), above + HEIGHT * len(models))
    figure, (axes,) = style.sheet(1, 1, size, (left, 0.15, 0.5), title, [*_notes(cells), *notes])
    for text in figure.texts:
        text.set_color(ink)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    colour = LinearSegmentedColormap.from_list("s", ground)
    known = {(c.model, c.row): c for c in abilities.each(cells)}
    for i, (row, head, ask) in enumerate(zip(rows, heads, asks, strict=True)):
        middle, bottom = (i + 0.5) * WIDTH, above - 0.07
        names = {"ha": "center", "va": "baseline", "linespacing": 1.15}
        axes.text(middle, bottom, "\n".join(head), fontsize=style.SMALL, **names)
        axes.text(middle, bottom - LINE * deepest - 0.04, "\n".join(ask), fontsize=style.SMALL - 1, color=soft, **names)
        for j, model in enumerate(models):
            _cell(axes, known.get((model, row)), (i * WIDTH, above + j * HEIGHT), colour, soft)
    for j, model in enumerate(models):
        axes.text(-0.08, above + (j + 0.5) * HEIGHT, model, ha="right", va="center", fontsize=style.SMALL)
    _scale(axes, size[1] + 0.14, colour, soft)
    return figure


def _cell(axes: Any, cell: Any, corner: tuple[float, float], colour: Any, soft: str) -> None:
    x, y = corner[0] + WIDTH / 2, corner[1] + HEIGHT / 2
    if cell is None:
        axes.text(x, y, said.NOTHING, ha="center", va="center", fontsize=style.SMALL, color=soft)
        return
    box = (corner[0] + GAP / 2, corner[1] + GAP / 2), WIDTH - GAP, HEIGHT - GAP
    if not cell.seeds:
        axes.add_patch(Rectangle(*box, facecolor="none", edgecolor=soft, linewidth=0.8, linestyle=(0, (3, 2))))
        axes.text(x, y, said.learnt(cell), ha="center", va="center", fontsize=style.SMALL - 1, color=soft)
        return
    ground = colour(min(max(cell.score, 0.0), 1.0))
    axes.add_patch(Rectangle(*box, facecolor=ground, edgecolor="none"))
    ink = "white" if _luminance(ground) < 0.25 else "black"
    weight = "bold" if abilities.whole(cell) else "normal"
    count = f"{cell.learnt}/{cell.seeds}" + (f"+{cell.failed}" if cell.failed else "")
    words = {"ha": "center", "color": ink, "fontsize": style.SMALL - 1}
    axes.text(x, y - 0.01, count, va="bottom", fontweight=weight, **words)
    axes.text(x, y + 0.01, said.brief(cell), va="top", **words)


def _scale(axes: Any, y: float, colour: Any, soft: str) -> None:
    """What the ground means."""
    for i in range(5):
        axes.add_patch(Rectangle((i * 0.4, y), 0.4, 0.12, facecolor=colour(i / 4), edgecolor="none", clip_on=False))
        words = f"s = {i / 4:g}" if i in (0, 4) else f"{i / 4:g}"
        axes.text((i + 0.5) * 0.4, y + 0.14, words, ha="center", va="top", fontsize=style.SMALL - 1, color=soft)


def _luminance(colour: Any) -> float:
    """Relative luminance of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _notes(cells: pd.DataFrame) -> list[str]:
    limits = sorted({int(limit) for limit in cells.limit.dropna()})
    within = f" within {' or '.join(f'{limit:,}' for limit in limits)}" if limits else ""
    briefly = said.BRIEFLY.format(within=within)
    out = [
        "Ground: median s over seeds, 0 at the exam's floor and 1 at the best possible. Text:"
        f" {briefly}. Bold: every seed has learnt it."
    ]
    if cells.failed.sum():
        out.append("+1: one seed more failed. Broken frame: all have.")
    return out
