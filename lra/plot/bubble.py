"""The bubble chart: accuracy over speed, area for memory (after figure 3 of Tay et al. 2021), or what else is chosen.

Ours in one panel, the published numbers in grey in another, and only where ours are of the same exams: other code,
sizes and machines, and areas to another scale, so that nothing invites a comparison of one with the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lra.marks.front import pareto
from lra.marks.runs import REFERENCE
from lra.marks.skill import CUT
from lra.plot import labels, style
from lra.plot.choice import DEFAULT, Axis, Choice

LARGEST = 1500.0  # points^2 of the largest bubble of a panel
MOST = 24  # names that a panel has room for
MEANS = ("accuracy", "skill")  # of an exam each
UNITS = {
    "memory": (("GiB", 2.0**30, 2.0**31), ("MiB", 2.0**20, 0.0)),
    "parameters": (("M", 1e6, 2e6), ("k", 1e3, 0.0)),
    "state": (("k", 1e3, 2e3), ("", 1.0, 0.0)),
}  # of an area: name, size, and from which largest value on


@dataclass(frozen=True)
class About:
    """What a chart says of its points. speed: what it was measured on. stand_ins: are the averages over such? floor:
    what the best rules that are blind to long range have, on the y axis; null where that is not known. of, to: of
    core-seconds, whose they are and what they are taken to."""

    speed: str = ""
    stand_ins: bool = False
    floor: float | None = None
    of: str = "core"
    to: str = "the best local floor"


@style.drawn
def bubble(
    points: pd.DataFrame,
    title: str,
    published: pd.DataFrame | None = None,
    notes: Iterable[str] = (),
    about: About = About(),
    looks: dict[str, style.Look] | None = None,
    choice: Choice = DEFAULT,
    dark: bool = False,
) -> Figure:
    """The chart of one group: points as `lra.marks.means.averaged` gives them, with what lra.plot.choice adds;
    published as `lra.ledger.figure_3`, in a panel of its own.

    points: model, the columns of the choice, tasks and of (how many of how many it is over) and, if known, low and high
    (95 % interval of accuracy). A model that lacks some of the tasks is drawn hollow with its count, because its mean
    is over other tasks than its neighbours', and has no part in the Pareto front, and not at all if it lacks half of
    them; hollow is one that knows the rows and columns of images (uses_2d), named as such, and one that was pretrained,
    joined to the same `scratch`. Of more than MOST models those on the front and the Transformer are named, and the
    others have numbers, with a key beneath.
    """
    page = style.DARK if dark else style.LIGHT
    page.begin()
    looks = looks or style.looks(points.model)
    axes = choice.axes
    columns = [axis.column for axis in axes]
    shown = published is not None and published[columns].notna().all(axis=1).any()
    points = points.assign(scratch=points.get("scratch", pd.Series(None, points.index, dtype=object)))
    points = points.assign(uses_2d=points.get("uses_2d", pd.Series(False, points.index)).astype(bool))
    points["whole"] = (points.tasks == points.of) & ~points.uses_2d & points.scratch.isna()
    points["few"] = (points.tasks > 0) & (2 * points.tasks <= points.of) & points.scratch.isna() & (choice.y in MEANS)
    drawn = points[~points.few].dropna(subset=columns)
    texts, key = _texts(drawn, choice)
    tasks = int(points.of.max()) if len(points) else 0
    told = [*_told(points, drawn, choice, about), *key, *notes, *(_unmeasured(published, columns) if shown else ())]
    figure, panels = style.sheet(
        1 + shown, 2, (4.75, 3.7), (0.6 if choice.y == "accuracy" else 0.78, 0.31, 1.0), title, told
    )
    panels[0].set_xlabel(_across(choice, about))
    panels[0].set_title("measured here", loc="left")
    panels[0].set_ylabel(_up(choice, tasks, about))
    colours = {name: looks[name].colour for name in drawn.model[drawn.scratch.isna()]}
    colours |= {p.model: colours[p.scratch] for p in drawn[drawn.scratch.notna()].itertuples()}
    colours = {name: page.ink if own == style.BLACK else own for name, own in colours.items()}
    _bubbles(panels[0], drawn, colours, choice, page)
    _floor(panels[0], axes[1], about.floor, page)
    _joined(panels[0], drawn, colours, axes)
    if shown:
        rows = published.dropna(subset=columns).assign(whole=True)
        panels[1].set_title("as published by Tay et al. 2021 (TPU v3)", loc="left")
        panels[1].set_xlabel(f"{axes[0].words}, byte text at 4K, log scale")
        panels[1].set_ylabel("mean test accuracy over 5 tasks, %")
        _bubbles(panels[1], rows, dict.fromkeys(rows.model, style.GREY), choice, page, ("GB", 1e9))
    _names(panels[0], drawn, texts, axes, page.ink, page)
    if shown:
        _names(panels[1], rows, list(rows.model), axes, style.GREY, page)
    return figure


def _across(choice: Choice, about: About) -> str:
    words = choice.axes[0].words.format(of=about.of, to=about.to)
    return (
        f"{words}{', ' * (choice.x == 'speed' and bool(about.speed))}{about.speed * (choice.x == 'speed')}, log scale"
    )


def _up(choice: Choice, tasks: int, about: About) -> str:
    words, percent = choice.axes[1].words, ", %" * (choice.y == "accuracy")
    if choice.y not in MEANS or tasks <= 1:
        return f"{words}{percent}"
    return f"mean {words} over {tasks} tasks{' (stand-ins)' * about.stand_ins}{percent}"


def _bubbles(
    axes: Any,
    points: pd.DataFrame,
    colours: dict[str, str],
    choice: Choice,
    page: style.Page,
    unit: tuple[str, float] | None = None,
) -> None:
    x, y, area = choice.axes
    axes.set_xscale("log" if x.log else "linear")
    axes.set_yscale("log" if y.log else "linear")
    if points.empty:
        style.empty(axes)
        return
    largest = points[area.column].max()
    scale = LARGEST / largest
    points = points.sort_values([area.column, "model"], ascending=[False, True])
    points = points.assign(shown=y.scale * points[y.column])
    if "low" in points:
        for p in points.itertuples():
            at, ends = getattr(p, x.column), [y.scale * p.low, y.scale * p.high]
            axes.plot([at] * 2, ends, color=colours[p.model], linewidth=0.8, zorder=1.5)
    if choice.x == "speed":
        axes.axvline(1, color=page.soft, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    words = {"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
    sns.scatterplot(
        points, x=x.column, y="shown", hue="model", palette=colours, size=area.column,
        sizes=(0, LARGEST), size_norm=(0, largest), legend=False, ax=axes, linewidth=1.4,
    )  # fmt: skip
    axes.set(**words)  # seaborn puts the names of columns there
    dots = axes.collections[-1]
    faces = [(colours[p.model], 0.55) if p.whole else "none" for p in points.itertuples()]
    dots.set_facecolor(faces)
    dots.set_edgecolor([colours[p.model] for p in points.itertuples()])
    _front(axes, _best(points, x, y), x, page)
    _frame(axes, points, x, y)
    size_legend(axes, largest, scale, unit or _unit(choice.area, largest), area.words, page)


def _best(points: pd.DataFrame, x: Axis, y: Axis) -> pd.DataFrame:
    """The Pareto front of those that may be on it."""
    own = points[points.whole]
    return own.iloc[pareto(x.better * own[x.column], own[y.column])].sort_values(x.column)


def _front(axes: Any, best: pd.DataFrame, x: Axis, page: style.Page) -> None:
    """The edge of what is beaten: between two of the front it goes along the worse of each number."""
    steps = "steps-pre" if x.better > 0 else "steps-post"
    axes.plot(best[x.column], best.shown, drawstyle=steps, color=page.soft, linewidth=1.0, zorder=1.2, label="front")


def _joined(axes: Any, points: pd.DataFrame, colours: dict[str, str], chosen: tuple[Axis, Axis, Axis]) -> None:
    """A thin line from what was trained from scratch to the same model pretrained."""
    x, y, _ = chosen
    at = {p.model: (getattr(p, x.column), y.scale * getattr(p, y.column)) for p in points.itertuples()}
    for p in points[points.scratch.notna()].itertuples():
        axes.plot(*zip(at[p.scratch], at[p.model], strict=True), color=colours[p.model], linewidth=0.8, label="joined")


def _floor(axes: Any, y: Axis, floor: float | None, page: style.Page) -> None:
    """A line at the mean of the best local floors, if that is not too far off; its number above."""
    if floor is None or not axes.collections:
        return
    (low, high), at = axes.get_ylim(), y.scale * floor
    if low - 0.6 * (high - low) <= at <= high + 0.6 * (high - low):
        pad = 0.05 * (high - low)
        axes.set_ylim(min(low, at - pad), max(high, at + pad))
        axes.axhline(at, color=page.soft, linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=1)
        words = "dotted"
    else:
        words = "far above ↑" if at > high else "far below ↓"
    number = f"{at:.1f} %" if y.scale == 100 else f"{at:g}"
    axes.set_title(f"best local floors {number}, {words}", loc="right", fontsize=style.SMALL, color=page.soft)


def _frame(axes: Any, points: pd.DataFrame, x: Axis, y: Axis) -> None:
    """Limits with room for discs and names; round ticks on a log axis."""
    bounds = points[["shown"]].copy()
    for side in ("low", "high"):
        bounds[side] = y.scale * points[side] if side in points else points.shown
    axes.set_xlim(_room(points[x.column].min(), points[x.column].max(), x.log, (0.16, 0.5)))
    axes.set_ylim(_room(bounds.min().min(), bounds.max().max(), y.log, (0.14, y.least)))
    for scale, axis, limits in ((x, axes.xaxis, axes.get_xlim()), (y, axes.yaxis, axes.get_ylim())):
        if scale.log:
            log_ticks(axis, limits, scale.tick)
        else:
            axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=scale.column == "learnt"))


def _room(low: float, high: float, log: bool, pad: tuple[float, float]) -> tuple[float, float]:
    """pad: share of the span on either side, and the least span that it is a share of."""
    if log:
        low, high = np.log10(low), np.log10(high)
    more = pad[0] * max(high - low, pad[1])
    return (10 ** (low - more), 10 ** (high + more)) if log else (low - more, high + more)


def log_ticks(axis: Any, limits: tuple[float, float], tick: str) -> None:
    first, last = limits
    mantissas = (1,) if last / first > 1e4 else (1, 2, 5) if last / first > 15 else (1, 1.5, 2, 3, 5, 7)
    powers = range(int(np.floor(np.log10(first))), int(np.ceil(np.log10(last))) + 1)
    axis.set_ticks([t for e in powers for m in mantissas if first < (t := m * 10.0**e) < last])
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick.format(_short(value))))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> Any:
    """Of what is many, thousands, millions and so forth."""
    for power, sign in ((12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return _Text(f"{value / 10**power:g}{sign}")
    return value


class _Text(str):
    def __format__(self, _: str) -> str:
        return str(self)


def _unit(area: str, largest: float) -> tuple[str, float]:
    return next((name, size) for name, size, least in UNITS[area] if largest >= least)


def size_legend(axes: Any, largest: float, scale: float, unit: tuple[str, float], what: str, page: style.Page) -> None:
    """Two sizes, so that area can be read."""
    name, count = unit
    magnitude = 2.0 ** np.floor(np.log2(largest / count / 1.5))
    of = f"area: {what} of {{:g}} {name}" if name in ("GB", "GiB", "MiB") else f"area: {{:g}}{name} {what}"
    less = f"{{:g}} {name}" if name in ("GB", "GiB", "MiB") else f"{{:g}}{name}"
    handles = [
        axes.scatter(
            [], [], s=value * count * scale, facecolor=page.grid, edgecolor=page.soft, label=word.format(value)
        )
        for value, word in zip((magnitude, magnitude / 4), (of, less), strict=True)
    ]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.125), ncols=2, frameon=False,
        scatteryoffsets=[0.4], handlelength=3.2, handleheight=4.2, handletextpad=0.6, columnspacing=2,
    )  # fmt: skip


def _label(point: Any, choice: Choice, gap: str = " ") -> str:
    name = f"{point.model} ↓" if choice.y == "skill" and point.cut else point.model
    if isinstance(point.scratch, str):
        name = f"{point.scratch}{gap}pretrained"
    about = ["2-D"] * point.uses_2d + [f"{point.tasks} of {point.of}"] * (point.tasks != point.of)
    return f"{name}{gap}({', '.join(about)})" if about else name


def _texts(drawn: pd.DataFrame, choice: Choice) -> tuple[list[str], list[str]]:
    """What stands beside each bubble, and a note with the key to it if that are numbers."""
    if len(drawn) <= MOST:
        return [_label(p, choice, "\n") for p in drawn.itertuples()], []
    named = {REFERENCE, *_best(drawn, *choice.axes[:2]).model}
    others = sorted(set(drawn.model) - named)
    labels_of = {p.model: _label(p, choice) for p in drawn.itertuples()}
    numbers = {name: str(i) for i, name in enumerate(others, 1)}
    key = ", ".join(f"{numbers[name]}\N{NO-BREAK SPACE}{labels_of[name]}" for name in others)
    return [numbers.get(name, labels_of[name]) for name in drawn.model], [f"Numbers: {key}."]


def _names(
    axes: Any, points: pd.DataFrame, texts: list[str], chosen: tuple[Axis, Axis, Axis], colour: str, page: style.Page
) -> None:
    """Names beside the bubbles, joined to them by a line where they had to go further off."""
    if points.empty:
        return
    x, y, area = chosen
    scale = LARGEST / points[area.column].max()
    radius = np.sqrt(points[area.column].to_numpy(float) * scale / np.pi) * axes.figure.dpi / 72
    places = np.column_stack([points[x.column], y.scale * points[y.column]])
    whiskers = _whiskers(axes, points, x, y)
    labels.beside_points(axes, places, texts, radius, whiskers, style.SMALL, colour, page.soft, behind=page.paper)


def _whiskers(axes: Any, points: pd.DataFrame, x: Axis, y: Axis) -> np.ndarray:
    """The intervals as rows of small discs, (N, 3) in pixels, for names to keep off."""
    if "low" not in points:
        return np.empty((0, 3))
    rows = [
        (getattr(p, x.column), y.scale * (p.low + (p.high - p.low) * share / 100))
        for p in points.itertuples()
        for share in range(0, 101, 10)
    ]
    ends = axes.transData.transform(rows)
    return np.column_stack([ends[~np.isnan(ends).any(axis=1)], np.full((~np.isnan(ends).any(axis=1)).sum(), 1.0)])


def _told(points: pd.DataFrame, drawn: pd.DataFrame, choice: Choice, about: About) -> list[str]:
    notes = ["Vertical lines: 95 % intervals of the mean."] if "low" in drawn and drawn.low.notna().any() else []
    if len(drawn) > 1:
        notes.append("Steps: the Pareto front; nobody stands above and on the better side of a model on it.")
    if about.floor is not None and len(drawn):
        notes.append("Best local floors: mean over the same tasks of the best rules blind to long-range structure.")
    if choice.y == "skill" and drawn.cut.any():
        notes.append(f"↓: on some task the skill is below {CUT:g}, and was cut there.")
    short = drawn[drawn.tasks < drawn.of]
    if len(short):
        notes.append(
            "Partial: hollow is a mean over fewer tasks (how many of how many beside the name): "
            f"{style.listed(short.model)}."
        )
    if len(known := points[points.uses_2d & (points.tasks > 0)]):
        notes.append(f"2-D: hollow knows the rows and columns of images: {style.listed(known.model)}.")
    if len(known := points[points.scratch.notna()]):
        notes.append(f"Joined to its model from scratch, hollow: pretrained, {style.listed(known.scratch)}.")
    few = points[points.few]
    if len(few):
        notes.append(f"Not drawn, with half of the tasks or fewer: {style.listed(few.model)}.")
    missing = sorted(set(points.model) - set(drawn.model) - set(few.model))
    if missing:
        want = "an accuracy or a cost" if choice == DEFAULT else "a number on an axis"
        notes.append(f"Not drawn, for want of {want}: {style.listed(missing)}.")
    return notes


def _unmeasured(published: pd.DataFrame, columns: list[str]) -> list[str]:
    missing = published[published[columns].isna().any(axis=1)]
    return (
        [f"Published without a speed, so not in the right panel: {style.listed(missing.model)}."]
        if len(missing)
        else []
    )
