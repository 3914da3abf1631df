"""What a shape that nobody has measured takes: seconds and bytes of one inference step.

    y = (sum_j w_j x_j) exp(r),  w_j >= 0

x are counts that a cost is made of: for seconds FLOPs, bytes written, operations and a step itself (each has its rate
on a machine); for bytes the sizes of what a layer holds. w is what makes relative errors least (non-negative least
squares), so that the first factor is right in its order of magnitude for any mixer, also for one never measured. r is
a ridge regression on the logarithms of the sizes and the length, of each mixer its own level and slopes, with the
penalty that leaves one out best; of a mixer never measured r is 0.

A small model of few numbers, in place of HAT's network of three layers (arXiv 2005.14187): a hundred shapes are what
minutes can measure, and a network would need thousands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = (
    "key", "model", "depth", "dim", "heads", "length", "flops", "written", "ops", "stack_parameters", "peak_bytes",
    "resident_bytes",
)  # fmt: skip
SECONDS = ("flops", "written", "ops")
SIZES = ("depth", "dim", "heads", "length")
PENALTIES = np.logspace(-3, 3, 13)

Columns = pd.DataFrame | Mapping[str, Sequence[Any]]  # what is predicted: a column each of `model`, SIZES, counts


def pace_of(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """What a tenth of all paces reach, near that of a machine left alone; the median moves with what else it does, by a
    quarter from one hour to the next. null where none was taken."""
    found = [p for r in rows if r["status"] == "ok" for p in r["paces"] or ()]
    return float(np.quantile(found, 0.9)) if found else None


def table_of(rows: Sequence[Mapping[str, Any]], pace: float | None) -> pd.DataFrame:
    """A row a point that was measured and counted. `latency`: the median
    of its steps in seconds, each at `pace`, so that a machine that was slow for an hour is not a slow shape. `noise`:
    by what share the medians of its first and its second half differ. `memory`: bytes of weights and batch, and of what
    a step holds above them at its peak."""
    good = [r for r in rows if r["status"] == "ok" and all(r.get(c) is not None for c in COLUMNS)]
    table = pd.DataFrame([{c: r[c] for c in COLUMNS} for r in good], columns=list(COLUMNS))
    steps = [seconds(r, pace) for r in good]
    table["latency"] = [float(np.median(s)) for s in steps]
    table["noise"] = [abs(float(np.median(s[: len(s) // 2]) / np.median(s[len(s) // 2 :])) - 1) for s in steps]
    table["memory"] = table.peak_bytes + table.resident_bytes
    return table


def seconds(row: Mapping[str, Any], pace: float | None) -> np.ndarray:
    """Of each step, at one pace. With one thread on a CPU those of its core, which are those of the clock less what
    it waits for other programs; else those of the clock."""
    alone = row["paces"] is not None and row["machine"]["threads"] == 1
    taken = np.asarray(row["core_seconds" if alone else "seconds"], float)
    return taken if row["paces"] is None or pace is None else taken * np.asarray(row["paces"], float) / pace


def parts_of_seconds(table: Columns) -> np.ndarray:
    """(N, 4)."""
    return _with_one(*(_floats(table, c) for c in SECONDS))


def parts_of_bytes(table: Columns) -> np.ndarray:
    """(N, 5): of one layer at a time, which is what inference holds."""
    length, dim, heads = (_floats(table, c) for c in ("length", "dim", "heads"))
    return _with_one(length * dim, length * heads, dim * dim, length)


def parts_of_flops(table: Columns) -> np.ndarray:
    """(N, 1): what the prediction is compared with."""
    return _floats(table, "flops")[:, None]


def _floats(table: Columns, column: str) -> np.ndarray:
    return np.asarray(table[column], float)


def _with_one(*columns: np.ndarray) -> np.ndarray:
    return np.column_stack([*columns, np.ones(len(columns[0]))])


@dataclass(frozen=True)
class Predictor:
    """parts: (table) -> x. known: mixers with an r, in order. centre: (4,) mean logarithms of SIZES. correction: what
    predicts r; null: it is 0 for all."""

    parts: Any
    weights: np.ndarray
    known: tuple[str, ...]
    centre: np.ndarray
    correction: Any = None

    def __call__(self, table: Columns) -> np.ndarray:
        """(N,)."""
        base = self.parts(table) @ self.weights
        if self.correction is None:
            return base
        rest = self.correction.predict(_features(table, self.known, self.centre))
        return base * np.exp(np.where(np.isin(np.asarray(table["model"], str), self.known), rest, 0.0))


def fitted(table: pd.DataFrame, target: np.ndarray, parts: Any = parts_of_seconds, corrected: bool = True) -> Predictor:
    """target: (N,), above 0."""
    from scipy.optimize import nnls
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = parts(table)
    scale = np.where(x.any(0), x.max(0), 1.0)
    weights, _ = nnls(x / scale / target[:, None], np.ones(len(target)))
    weights = weights / scale
    known = tuple(sorted(set(table.model)))
    centre = np.array([np.log(_floats(table, c)).mean() for c in SIZES])
    if not corrected:
        return Predictor(parts, weights, known, centre)
    rest = np.log(target) - np.log(x @ weights)
    ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    return Predictor(parts, weights, known, centre, ridge.fit(_features(table, known, centre), rest))


def _features(table: Columns, known: tuple[str, ...], centre: np.ndarray) -> np.ndarray:
    """(N, 4 + 5 K): logarithms of the sizes, and for each mixer that is known whether it is that, alone and times
    each of them."""
    logs = np.column_stack([np.log(_floats(table, c)) for c in SIZES]) - centre
    own = [(np.asarray(table["model"], str) == name).astype(float)[:, None] for name in known]
    return np.hstack([logs, *(np.hstack([one, one * logs]) for one in own)])
