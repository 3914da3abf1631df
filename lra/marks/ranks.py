"""Which models of a column can be told apart, from their stored answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd

from lra.marks import stats
from lra.record.answers import Answers


@dataclass(frozen=True)
class Ranked:
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # model -> (best, worst)
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    resolution: float | None = None  # difference that is told apart 4 times in 5
    unranked: tuple[str, ...] = ()  # with an accuracy, but without answers on the same data to compare


NONE = Ranked()
T = TypeVar("T")


def column(cells: pd.DataFrame, answers: Answers) -> Ranked:
    """Ranks of the models of one task row of one group; on the data that most of them share."""
    data = cells.fingerprint.dropna()
    common = data.mode().min() if len(data) else None
    known = {
        c.model: answers.right(c.answers) if c.fingerprint == common else None for c in cells.itertuples() if c.seeds
    }
    comparable = _comparable(known)
    unranked = tuple(sorted(set(known) - set(comparable)))
    scatter = {name: stats.scatter(right) for name, right in comparable.items()}
    apart = [stats.difference(a, b) for a, b in _pairs(scatter)]
    p = [stats.compare(a, b, known) for (a, b), known in zip(_pairs(comparable), apart, strict=True)]
    return _ranked({name: float(r.mean()) for name, r in comparable.items()}, p, apart, unranked)


def average(cells: pd.DataFrame, rows: Sequence[str], answers: Answers) -> Ranked:
    """Averages over `rows` of the models that have an accuracy on every one of them, and their ranks."""
    whole = cells[cells["row"].isin(rows) & cells.accuracy.notna()]
    complete = {
        name: part.set_index("row") for name, part in whole.groupby("model", sort=True) if len(part) == len(rows)
    }
    values = {name: float(part.accuracy[list(rows)].mean()) for name, part in complete.items()}
    by_row = {row: _comparable({n: answers.right(part.answers[row]) for n, part in complete.items()}) for row in rows}
    names = [n for n in complete if all(n in by_row[row] for row in rows)]
    estimates = {n: stats.mean([stats.accuracy(by_row[row][n]) for row in rows]) for n in names}
    scatter = {row: {n: stats.scatter(by_row[row][n]) for n in names} for row in rows}
    apart = [
        stats.mean([stats.difference(scatter[row][names[i]], scatter[row][names[j]]) for row in rows])
        for i, j in stats.pairs(len(names))
    ]
    unranked = tuple(sorted(set(complete) - set(names)))
    ranked = _ranked({n: values[n] for n in names}, [d.p() for d in apart], apart, unranked)
    intervals = {n: tuple(float(np.clip(v, 0, 1)) for v in e.interval()) for n, e in estimates.items()}
    return Ranked(ranked.ranks, values, intervals, ranked.resolution, unranked)


def _comparable(known: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Those with answers to the commonest number of test items."""
    sizes = [r.shape[-1] for r in known.values() if r is not None]
    common = max(sorted(set(sizes)), key=sizes.count) if sizes else 0
    return {name: r for name, r in known.items() if r is not None and r.shape[-1] == common}


def _pairs(known: Mapping[str, T]) -> list[tuple[T, T]]:
    values = list(known.values())
    return [(values[i], values[j]) for i, j in stats.pairs(len(values))]


def _ranked(
    values: Mapping[str, float], p: list[float], apart: list[stats.Estimate], unranked: tuple[str, ...]
) -> Ranked:
    if len(values) < 2:
        return Ranked(values=values, unranked=unranked)
    best, worst = stats.ranks(list(values.values()), p)
    ranks = {name: (int(b), int(w)) for name, b, w in zip(values, best, worst, strict=True)}
    together = stats.Estimate(
        *(np.array([getattr(d, f) for d in apart], float) for f in ("value", "seeds", "freedom", "items"))
    )
    return Ranked(ranks, values, {}, stats.resolution(together, len(p)), unranked)
