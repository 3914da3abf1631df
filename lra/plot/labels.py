"""Where labels go so that they cover neither one another nor what they name. Deterministic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

STEPS = 16  # directions tried around a point
REACHES = (0.0, 8.0, 18.0, 32.0, 50.0, 75.0)  # pixels beyond the point's own disc
CLEAR = 4.0  # pixels between a label and what is beside it


def beside(discs: np.ndarray, sizes: np.ndarray, frame: tuple[float, float, float, float]) -> np.ndarray:
    """Centres (N, 2) for N labels beside the first N of M discs, all in pixels.

    discs   (M, 3): x, y, radius; those after the Nth are only kept clear
    sizes   (N, 2): width and height of the labels
    frame   left, bottom, right, top: labels stay inside
    Labels are set one after another where they cost least, then each again until nothing changes; of
    several orders the cheapest result counts. O(N (N + M)) for each of at most a few dozen rounds.
    """
    n = len(sizes)
    options = [_around(disc, size) for disc, size in zip(discs, sizes, strict=False)]
    fixed = [_alone(options[i], sizes[i], discs, i, frame) for i in range(n)]
    orders = [np.argsort(key, kind="stable") for key in (-discs[:n, 2], discs[:n, 0], -discs[:n, 0], discs[:n, 1])]
    results = [_settled(order, options, fixed, discs, sizes) for order in orders]
    return min(results, key=lambda r: r[1])[0] if n else np.empty((0, 2))


def _settled(
    order: np.ndarray, options: list[np.ndarray], fixed: list[np.ndarray], discs: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, float]:
    """(centres, their cost) of one pass after another over the labels in that order."""
    centres, cost = np.full((len(sizes), 2), np.nan), np.zeros(len(sizes))
    for _ in range(8):
        before = centres.copy()
        for i in order:
            rest = np.flatnonzero(~np.isnan(centres[:, 0]) & (np.arange(len(sizes)) != i))
            costs = (fixed[i] + _together(options[i], sizes[i], discs[i, :2], centres[rest], sizes[rest])).round(6)
            centres[i], cost[i] = options[i][costs.argmin()], costs.min()
        if np.array_equal(before, centres, equal_nan=True):
            break
    return centres, round(float(cost.sum()), 6)


def _around(disc: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Candidate centres (C, 2): label boxes that touch the disc, and further out."""
    angle = np.arange(STEPS) * 2 * math.pi / STEPS
    reach = disc[2] + CLEAR + np.array(REACHES)[:, None]
    x = disc[0] + np.cos(angle) * (reach + size[0] / 2)
    y = disc[1] + np.sin(angle) * (reach + size[1] / 2)
    return np.stack([x, y], axis=-1).reshape(-1, 2).round(3)


def _alone(
    options: np.ndarray, size: np.ndarray, discs: np.ndarray, i: int, frame: tuple[float, float, float, float]
) -> np.ndarray:
    """(C,) what each option costs whatever the other labels do: leaving the frame, covering discs, distance."""
    low, high = options - size / 2, options + size / 2
    outside = np.maximum(0, np.array(frame[:2]) - low) + np.maximum(0, high - np.array(frame[2:]))
    away = np.hypot(*(options - discs[i, :2]).T)
    nearest = discs[:, :2].clip(low[:, None], high[:, None])
    room = np.where(np.arange(len(discs)) == i, 1.0, 2 * CLEAR)
    depth = discs[:, 2] + room - np.hypot(*np.moveaxis(nearest - discs[:, :2], -1, 0))
    hidden = np.where(depth > 0, 20 + 2 * depth, 0).sum(-1)
    other = np.delete(discs, i, axis=0)
    line = _lines(options, discs[i, :2])
    through = (np.hypot(*np.moveaxis(line[:, :, None] - other[:, :2], -1, 0)) < other[:, 2]).any(0).sum(-1)
    return 50 * outside.sum(-1) + hidden + 15 * through + 0.2 * away


def _together(
    options: np.ndarray, size: np.ndarray, start: np.ndarray, placed: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """(C,) what each option costs beside the labels already placed: covering one, or leading through one."""
    room = (size + sizes) / 2 + (2 * CLEAR, CLEAR)
    covered = (abs(options[:, None] - placed) < room).all(-1).sum(-1)
    through = (abs(_lines(options, start)[:, :, None] - placed) < sizes / 2 + CLEAR / 2).all(-1).any(0).sum(-1)
    return 1000 * covered + 300 * through


def _lines(options: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(6, C, 2): points along the line from a disc's centre to each option."""
    return start + np.linspace(0.25, 0.9, 6)[:, None, None] * (options - start)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Positions near the wanted ones (N,), at least `gap` apart, within [low, high] if they fit.

    Least squares by pooling neighbours that are too close (Ayer et al. 1955, isotonic regression).
    """
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    pools: list[list[float]] = []  # sum and count of (wanted - i gap), whose means must not fall
    for i, k in enumerate(order):
        pools.append([wanted[k] - i * gap, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    bases = np.concatenate([np.full(int(n), total / n) for total, n in pools]) if pools else np.empty(0)
    out = np.empty(len(order))
    out[order] = bases.clip(low, high - gap * (len(order) - 1)) + gap * np.arange(len(order))
    return out


def beside_points(
    axes: Any,
    points: Any,
    texts: Sequence[str],
    radius: Any,
    others: Any,
    size: float,
    ink: str,
    soft: str,
    far: float = 10.0,
    behind: str | None = None,
) -> None:
    """Names beside points (N, 2) in data coordinates, off one another, off the points' discs and off `others`, joined
    to their point by a thin line where they stand off.

    radius (N,), others (M, 3: x, y, radius), far: pixels. behind: the colour of a ground under each name.
    """
    renderer, pixel = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    middle, radius = axes.transData.transform(points), np.broadcast_to(radius, len(points))
    look = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": size, "color": ink}
    names = [axes.annotate(text, xy, xytext=(0, 0), **look) for text, xy in zip(texts, points, strict=True)]
    if behind is not None:
        for name in names:
            name.set_bbox({"facecolor": behind, "alpha": 0.7, "edgecolor": "none", "pad": 0.5})
    sizes = np.array([[b.width, b.height] for b in (name.get_window_extent(renderer) for name in names)])
    box = axes.get_window_extent()
    discs = np.concatenate([np.column_stack([middle, radius]), np.reshape(others, (-1, 3))])
    places = beside(discs, sizes, (box.x0 + 3, box.y0 + 3, box.x1 - 3, box.y1 - 3))
    for name, place, point, half, r in zip(names, places, middle, sizes / 2, radius, strict=True):
        name.set_position(tuple((place - point) / pixel))
        edge = point.clip(place - half, place + half)
        off = edge - point
        if np.hypot(*off) > r + far:
            start = point + off / np.hypot(*off) * r
            ends = axes.transData.inverted().transform([start, edge])
            axes.plot(*ends.T, color=soft, linewidth=0.7, zorder=1.6)


def at_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]], size: float, ink: str = "0.1") -> None:
    """Names to the right of a panel, each joined by a thin line to where its curve ends.

    ends   (x, y, text, colour) in data coordinates.
    """
    if not ends:
        return
    axes.autoscale_view()  # else limits that matplotlib has yet to work out would come after
    box = axes.get_window_extent()
    pixel = axes.figure.dpi / 72
    points = axes.transData.transform([(x, y) for x, y, *_ in ends])
    places = spread(points[:, 1], 1.25 * size * pixel, box.y0 + size * pixel / 2, box.y1 - size * pixel / 2)
    heights = (places - box.y0) / box.height
    starts = axes.transAxes.inverted().transform(points)
    reach = 1 + np.array([10, 13]) * pixel / box.width
    lines = [[start, (reach[0], height)] for start, height in zip(starts, heights, strict=True)]
    early = [start[0] < 0.9 for start in starts]  # a solid line from there would look like part of a curve
    look = {"colors": [own for *_, own in ends], "linestyles": [(0, (1, 3)) if e else "-" for e in early]}
    leaders = LineCollection(lines, linewidths=0.7, transform=axes.transAxes, clip_on=False, zorder=2, **look)
    axes.add_artist(leaders)
    for (_, _, text, _), height in zip(ends, heights, strict=True):
        axes.text(reach[1], height, text, transform=axes.transAxes, va="center", fontsize=size, color=ink)
