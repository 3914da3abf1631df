"""The bubble chart: accuracy over speed, area for memory (after figure 3 of Tay et al. 2021).

Ours in one panel, the published numbers in grey in another: other code, sizes and machines, and areas
to another scale, so that nothing invites a comparison of one with the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lra.plot import labels, style

LARGEST = 1500.0  # points^2 of the largest bubble of a panel
SPEED = f"training speed relative to the {style.REFERENCE.capitalize()}"
NEEDED = ["accuracy", "relative_speed", "step_peak_bytes"]


@style.drawn
def bubble(
    points: pd.DataFrame,
    title: str,
    published: pd.DataFrame | None = None,
    notes: Iterable[str] = (),
    speed: str = "",
    looks: dict[str, style.Look] | None = None,
) -> Figure:
    """The chart of one group: points as `lra.marks.means.averages_of` gives them, published as `lra.ledger.figure_3`.

    points: model, accuracy (fraction; mean over tasks), tasks and of (how many of how many),
    relative_speed, step_peak_bytes and, if known, low and high (95 % interval of accuracy). A model
    that lacks some of the tasks is drawn hollow with its count, because its mean is over other tasks
    than its neighbours'. `speed` says what the speed was measured on.
    """
    looks = looks or style.looks(points.model)
    shown = published is not None and published[NEEDED].notna().all(axis=1).any()
    drawn = points.dropna(subset=NEEDED)
    tasks = int(points.of.max()) if len(points) else 0
    told = [*_partial(points, drawn), *notes, *(_unmeasured(published) if shown else ())]
    figure, panels = style.sheet(1 + shown, 2, (4.75, 3.7), (0.6, 0.15, 1.0), title, told)
    panels[0].set_xlabel(f"{SPEED}{', ' * bool(speed)}{speed}, log scale")
    panels[0].set_title("measured here", loc="left")
    panels[0].set_ylabel("test accuracy, %" if tasks <= 1 else f"mean test accuracy over {tasks} tasks, %")
    colours = {name: looks[name].colour for name in drawn.model}
    unit = ("GiB", 2.0**30) if drawn.step_peak_bytes.max() >= 2**31 else ("MiB", 2.0**20)
    _bubbles(panels[0], drawn.assign(whole=drawn.tasks == drawn.of), colours, unit)
    if shown:
        rows = published.dropna(subset=NEEDED).assign(whole=True)
        panels[1].set_title("as published by Tay et al. 2021 (TPU v3)", loc="left")
        panels[1].set_xlabel(f"{SPEED}, byte text at 4K, log scale")
        panels[1].set_ylabel("mean test accuracy over 5 tasks, %")
        _bubbles(panels[1], rows, dict.fromkeys(rows.model, style.GREY), ("GB", 1e9))
    _names(panels[0], drawn, [_label(p, "\n") for p in drawn.itertuples()])
    if shown:
        _names(panels[1], rows, list(rows.model), style.GREY)
    return figure


def _bubbles(axes: Any, points: pd.DataFrame, colours: dict[str, str], unit: tuple[str, float]) -> None:
    axes.set_xscale("log")
    if points.empty:
        style.empty(axes)
        return
    scale = LARGEST / points.step_peak_bytes.max()
    points = points.sort_values(["step_peak_bytes", "model"], ascending=[False, True])
    points = points.assign(percent=100 * points.accuracy)
    if "low" in points:
        for p in points.itertuples():
            axes.plot(
                [p.relative_speed] * 2, [100 * p.low, 100 * p.high], color=colours[p.model], linewidth=0.8, zorder=1.5
            )
    axes.axvline(1, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    words = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    sns.scatterplot(
        points, x="relative_speed", y="percent", hue="model", palette=colours, size="step_peak_bytes",
        sizes=(0, LARGEST), size_norm=(0, points.step_peak_bytes.max()), legend=False, ax=axes, linewidth=1.4,
    )  # fmt: skip
    axes.set(**words)  # seaborn puts the names of columns there
    dots = axes.collections[-1]
    faces = [(colours[p.model], 0.55) if p.whole else "none" for p in points.itertuples()]
    dots.set_facecolor(faces)
    dots.set_edgecolor([colours[p.model] for p in points.itertuples()])
    _frame(axes, points, scale)
    _legend(axes, points.step_peak_bytes.max(), scale, unit)


def _frame(axes: Any, points: pd.DataFrame, scale: float) -> None:
    """Limits with room for discs and names; round ticks on the log axis."""
    low, high = np.log10(points.relative_speed.min()), np.log10(points.relative_speed.max())
    pad = 0.16 * max(high - low, 0.5)
    axes.set_xlim(10 ** (low - pad), 10 ** (high + pad))
    bounds = points[["percent"]].assign(
        low=100 * points.get("low", points.accuracy), high=100 * points.get("high", points.accuracy)
    )
    bottom, top = bounds.min().min(), bounds.max().max()
    pad = 0.14 * max(top - bottom, 2.0)
    axes.set_ylim(bottom - pad, top + pad)
    first, last = axes.get_xlim()
    mantissas = (1, 2, 5) if last / first > 15 else (1, 1.5, 2, 3, 5, 7)
    ticks = [m * 10.0**e for e in range(-4, 5) for m in mantissas]
    axes.set_xticks([t for t in ticks if first < t < last])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, largest: float, scale: float, unit: tuple[str, float]) -> None:
    """Two sizes, so that area can be read as memory."""
    name, count = unit
    magnitude = 2.0 ** np.floor(np.log2(largest / count / 1.5))
    words = ("area: step peak memory of {:g} {}", "{:g} {}")
    handles = [
        axes.scatter([], [], s=value * count * scale, facecolor="0.85", edgecolor="0.4", label=word.format(value, name))
        for value, word in zip((magnitude, magnitude / 4), words, strict=True)
    ]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.125), ncols=2, frameon=False,
        scatteryoffsets=[0.4], handlelength=3.2, handleheight=4.2, handletextpad=0.6, columnspacing=2,
    )  # fmt: skip


def _label(point: Any, gap: str = " ") -> str:
    return point.model if point.tasks == point.of else f"{point.model}{gap}({point.tasks} of {point.of})"


def _names(axes: Any, points: pd.DataFrame, texts: list[str], colour: str = "0.1") -> None:
    """Names beside the bubbles, joined to them by a line where they had to go further off."""
    if points.empty:
        return
    renderer = axes.figure.canvas.get_renderer()
    pixel = axes.figure.dpi / 72
    scale = LARGEST / points.step_peak_bytes.max()
    middle = axes.transData.transform(np.column_stack([points.relative_speed, 100 * points.accuracy]))
    radius = np.sqrt(points.step_peak_bytes.to_numpy(float) * scale / np.pi) * pixel
    notes = [
        axes.annotate(
            text,
            xy,
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=style.SMALL,
            color=colour,
        )
        for text, xy in zip(texts, zip(points.relative_speed, 100 * points.accuracy, strict=True), strict=True)
    ]
    for note in notes:
        note.set_bbox({"facecolor": (1, 1, 1, 0.7), "edgecolor": "none", "pad": 0.5})
    sizes = np.array([[b.width, b.height] for b in (n.get_window_extent(renderer) for n in notes)])
    box = axes.get_window_extent()
    discs = np.concatenate([np.column_stack([middle, radius]), _whiskers(axes, points)])
    places = labels.beside(discs, sizes, (box.x0 + 3, box.y0 + 3, box.x1 - 3, box.y1 - 3))
    for note, place, point, half, r in zip(notes, places, middle, sizes / 2, radius, strict=True):
        note.set_position(tuple((place - point) / pixel))
        edge = point.clip(place - half, place + half)
        off = edge - point
        if np.hypot(*off) > r + 10:
            start = point + off / np.hypot(*off) * r
            ends = axes.transData.inverted().transform([start, edge])
            axes.plot(*ends.T, color="0.5", linewidth=0.7, zorder=1.6)


def _whiskers(axes: Any, points: pd.DataFrame) -> np.ndarray:
    """The intervals as rows of small discs, (N, 3) in pixels, for names to keep off."""
    if "low" not in points:
        return np.empty((0, 3))
    rows = [
        (p.relative_speed, 100 * p.low + (p.high - p.low) * share)
        for p in points.itertuples()
        for share in range(0, 101, 10)
    ]
    ends = axes.transData.transform(rows)
    return np.column_stack([ends[~np.isnan(ends).any(axis=1)], np.full((~np.isnan(ends).any(axis=1)).sum(), 1.0)])


def _partial(points: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    notes = ["Vertical lines: 95 % intervals of the mean."] if "low" in drawn and drawn.low.notna().any() else []
    short = points[points.tasks < points.of]
    if len(short):
        notes.append(
            "Partial: hollow is a mean over fewer tasks (how many of how many beside the name): "
            f"{style.listed(short.model)}."
        )
    missing = sorted(set(points.model) - set(drawn.model))
    if missing:
        notes.append(f"Not drawn, for want of an accuracy or a cost: {style.listed(missing)}.")
    return notes


def _unmeasured(published: pd.DataFrame) -> list[str]:
    missing = published[published[NEEDED].isna().any(axis=1)]
    return (
        [f"Published without a speed, so not in the right panel: {style.listed(missing.model)}."]
        if len(missing)
        else []
    )
