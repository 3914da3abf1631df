"""Cost curves: time and memory of a step over length, both logarithmic, and where models cross the reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from lra.plot import labels, style

PANELS = (  # phase, quantity of the fit, column, its unit, title
    ("train", "time", "seconds_median", 1.0, "training: time of a step, s"),
    ("inference", "time", "seconds_median", 1.0, "inference: time of a forward pass, s"),
    ("train", "memory", "step_peak_bytes", 2.0**20, "training: peak memory of a step, MiB"),
)
PHASES = {"train": ("training", "o", True), "inference": ("inference", "s", False)}  # name, marker, filled
MARKS = {"oom": "x"}  # of points without a value; any other failure is "+"


@style.drawn
def cost(
    points: pd.DataFrame,
    failures: pd.DataFrame,
    fits: pd.DataFrame,
    crossing: pd.DataFrame,
    title: str,
    notes: Iterable[str] = (),
    looks: dict[str, style.Look] | None = None,
) -> Figure:
    """The chart of one group at a fixed batch.

    points     as `lra.cost.points.newest`: one row a model, length and phase
    failures   model, phase, length, status of points without a value: drawn above the curves
    fits       as `lra.cost.growth.fits`: exponents, shown beside each name with their 95 % interval
    crossing   as `lra.cost.growth.crossing`: from which length on a model is faster than the reference
    """
    looks = looks or style.looks([*points.model, *failures.model])
    told = [*_explained(points, failures, fits), *notes]
    figure, panels = style.sheet(4, 2, (3.2, 3.4), (0.65, 2.1, 0.7), title, told)
    parts = []
    for axes, (phase, _, column, unit, name) in zip(panels[:3], PANELS, strict=True):
        part = points[(points.phase == phase) & points[column].notna()]
        parts.append(part.assign(value=part[column].astype(float) / unit))
        _curves(axes, parts[-1], failures[failures.phase == phase], looks)
        axes.set_title(name, loc="left")
    style.widen(panels[3], -0.5, 1.95)
    _crossings(panels[3], crossing, points, looks)
    for axes, part, (phase, quantity, *_) in zip(panels[:3], parts, PANELS, strict=True):
        known = fits[(fits.phase == phase) & (fits.quantity == quantity)].set_index("model")
        ends = part.sort_values("length").groupby("model", sort=True).last()
        words = [_exponent(name, known) for name in ends.index]
        colours = [looks[name].colour for name in ends.index]
        labels.at_ends(axes, list(zip(ends.length, ends.value, words, colours, strict=True)), style.SMALL)
    return figure


@style.drawn
def throughput(
    points: pd.DataFrame, title: str, notes: Iterable[str] = (), looks: dict[str, style.Look] | None = None
) -> Figure:
    """Tokens per second over length, each at the largest batch that fits.

    points: model, phase, length, batch_size, examples_per_second.
    """
    looks = looks or style.looks(points.model)
    told = ["Beside each name: the batch at its longest length.", *notes]
    figure, panels = style.sheet(2, 2, (3.6, 3.6), (0.7, 1.7, 0.5), title, told)
    drawn = []
    for axes, (phase, (name, *_)) in zip(panels, PHASES.items(), strict=True):
        part = points[(points.phase == phase) & points.examples_per_second.notna()]
        part = part.assign(value=part.examples_per_second.astype(float) * part.length)
        _curves(axes, part, part.iloc[:0], looks)
        axes.set_title(f"{name}: tokens/s at the largest batch that fits", loc="left")
        drawn.append((axes, part))
    for axes, part in drawn:
        ends = part.sort_values("length").groupby("model", sort=True).last()
        words = [f"{e.Index}, batch {e.batch_size}" for e in ends.itertuples()]
        colours = [looks[name].colour for name in ends.index]
        labels.at_ends(axes, list(zip(ends.length, ends.value, words, colours, strict=True)), style.SMALL)
    return figure


def _curves(axes: Any, part: pd.DataFrame, failed: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """One line a model; points without a value in a band above; disturbed points white inside."""
    axes.set_xlabel("length, tokens")
    if part.empty:
        style.empty(axes)
        return
    names = sorted(part.model.unique())
    unsure = part.get("disturbed", pd.Series(False, index=part.index)).fillna(False).astype(bool)
    for name in names:
        look, own = looks[name], part[part.model == name].sort_values("length")
        axes.plot(own.length, own.value, color=look.colour, linestyle=look.line, linewidth=1.3)
        for face, some in ((look.colour, own[~unsure[own.index]]), ("white", own[unsure[own.index]])):
            axes.plot(
                some.length, some.value, look.marker, color=look.colour, markerfacecolor=face, markersize=4.5,
                markeredgewidth=0.8, zorder=3,
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="length, tokens", ylabel="")
    lengths = sorted({*part.length, *failed.length})
    _length_axis(axes, lengths)
    low, high = np.log10(part.value.min()), np.log10(part.value.max())
    top = high + 0.05 * (high - low)
    slots = sorted(failed.model.unique())
    step = 0.05 * (high - low + 0.1)
    axes.set_ylim(10 ** (low - 0.05 * (high - low)), 10 ** (top + (len(slots) + 0.5) * step * bool(slots)))
    wide = high - low > 2
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if slots:
        axes.axhspan(10**top, axes.get_ylim()[1], color="0.93", zorder=0)
    for slot, name in enumerate(slots):
        y = 10 ** (top + (slot + 0.75) * step)
        mine = failed[failed.model == name].sort_values("length")
        for status, some in mine.groupby("status"):
            axes.plot(
                some.length,
                [y] * len(some),
                MARKS.get(status, "+"),
                color=looks[name].colour,
                markersize=6,
                markeredgewidth=1.6,
            )
        own = part[(part.model == name) & (part.length < mine.length.min())].sort_values("length")
        if len(own):
            axes.plot(
                [own.length.iloc[-1], mine.length.iloc[0]], [own.value.iloc[-1], y],
                color=looks[name].colour, linewidth=0.8, linestyle=":",
            )  # fmt: skip


def _length_axis(axes: Any, lengths: list[int]) -> None:
    axes.set_xscale("log")
    low, high = np.log2(min(lengths)), np.log2(max(lengths))
    pad = 0.05 * max(high - low, 1)
    axes.set_xlim(2 ** (low - pad), 2 ** (high + pad))
    shown = [n for n in lengths if n & (n - 1) == 0] or lengths
    axes.set_xticks(shown, [style.short(n) for n in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _crossings(axes: Any, crossing: pd.DataFrame, points: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    """A row a model: the crossing length of each phase with its interval; arrows where there is none."""
    axes.set_title(f"length from which a step is faster than the {style.REFERENCE}'s", loc="left")
    axes.set_xlabel("length, tokens")
    if crossing.empty:
        style.empty(axes)
        return
    lengths = sorted(points.length.unique())
    _length_axis(axes, lengths)
    rank = {"below": 0.0, "above": np.inf}
    train = crossing[crossing.phase == "train"].assign(
        at=lambda t: [rank.get(r.side, r.length) for r in t.itertuples()]
    )
    names = [*train.sort_values(["at", "model"], ascending=[False, False]).model]
    names = [*sorted(set(crossing.model) - set(names)), *names]
    for row in crossing.itertuples():
        _, marker, filled = PHASES[row.phase]
        y = names.index(row.model) + (0.17 if row.phase == "train" else -0.17)
        look = {"color": looks[row.model].colour, "markersize": 5, "markeredgewidth": 1.1}
        look["markerfacecolor"] = looks[row.model].colour if filled else "white"
        if row.side == "within":
            low = lengths[0] if pd.isna(row.low) else row.low
            high = axes.get_xlim()[1] if pd.isna(row.high) else row.high
            axes.plot([low, high], [y, y], color=looks[row.model].colour, linewidth=1)
            axes.plot(row.length, y, marker, **look)
        else:
            axes.plot(
                lengths[0] if row.side == "below" else lengths[-1], y, "<" if row.side == "below" else ">", **look
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.grid(axis="y", visible=False)
    keys = [
        ("o", "training", "0.3"), ("s", "inference", "white"), ("<", "at every measured length", "0.8"),
        (">", "at none", "0.8"),
    ]  # fmt: skip
    handles = [axes.plot([], [], m, color="0.3", markerfacecolor=f, markersize=5, label=t)[0] for m, t, f in keys]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.11),
        ncols=4,
        frameon=False,
        columnspacing=1,
        handletextpad=0.1,
    )


def _exponent(name: str, known: pd.DataFrame) -> str:
    """ "name 1.02 [0.98, 1.06]"."""
    if name not in known.index:
        return name
    row = known.loc[name]
    interval = "" if pd.isna(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{name} {row.exponent:.2f}{interval}"


def _explained(points: pd.DataFrame, failures: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    notes = []
    if len(fits):
        span = f"from {style.short(fits.from_length.min())} on"
        notes.append(
            f"Beside each name: the exponent of length, fitted {span}, and its 95 % interval; lines at crossings: 95 %."
        )
    if len(failures):
        oom, other = (failures.status == "oom").any(), (failures.status != "oom").any()
        words = ["x: out of memory"] * bool(oom) + ["+: failed"] * bool(other)
        notes.append(f"In the grey band, without a value: {', '.join(words)}.")
    if points.get("disturbed", pd.Series(dtype=bool)).any():
        notes.append("White inside: measured on a disturbed machine.")
    lengths = points.groupby("model").length.nunique()
    short = lengths[lengths < lengths.max()]
    lost = failures.groupby("model").length.nunique().reindex(short.index).fillna(0)
    gaps = short[short + lost < lengths.max()]
    if len(gaps):
        notes.append(f"Partial: fewer lengths measured for {style.listed(gaps.index)}.")
    return notes
