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

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

SECONDS = ("flops", "written", "ops")
SIZES = ["depth", "dim", "heads", "length"]
PENALTIES = np.logspace(-3, 3, 13)


def parts_of_seconds(table: pd.DataFrame) -> np.ndarray:
    """(N, 4)."""
    return np.column_stack([*(table[c].to_numpy(float) for c in SECONDS), np.ones(len(table))])


def parts_of_bytes(table: pd.DataFrame) -> np.ndarray:
    """(N, 5): of one layer at a time, which is what inference holds."""
    length, dim, heads = (table[c].to_numpy(float) for c in ("length", "dim", "heads"))
    return np.column_stack([length * dim, length * heads, dim * dim, length, np.ones(len(table))])


def parts_of_flops(table: pd.DataFrame) -> np.ndarray:
    """(N, 1): what the prediction is compared with."""
    return table[["flops"]].to_numpy(float)


@dataclass(frozen=True)
class Predictor:
    """parts: (table) -> x. known: mixers with an r, in order. centre: (4,) mean logarithms of SIZES. correction: what
    predicts r; null: it is 0 for all."""

    parts: Any
    weights: np.ndarray
    known: tuple[str, ...]
    centre: np.ndarray
    correction: Any = None

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        """(N,) of a table with the columns `model`, SIZES and what `parts` reads."""
        base = self.parts(table) @ self.weights
        if self.correction is None:
            return base
        inside = table.model.isin(self.known).to_numpy()
        out = base.copy()
        if inside.any():
            out[inside] *= np.exp(self.correction.predict(_features(table[inside], self.known, self.centre)))
        return out


def fitted(table: pd.DataFrame, target: np.ndarray, parts: Any = parts_of_seconds, corrected: bool = True) -> Predictor:
    """target: (N,), above 0."""
    from scipy.optimize import nnls
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = parts(table)
    scale = x.max(0)
    weights, _ = nnls(x / scale / target[:, None], np.ones(len(target)))
    weights = weights / scale
    known, centre = tuple(sorted(set(table.model))), np.log(table[SIZES].to_numpy(float)).mean(0)
    if not corrected:
        return Predictor(parts, weights, known, centre)
    rest = np.log(target) - np.log(x @ weights)
    ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    return Predictor(parts, weights, known, centre, ridge.fit(_features(table, known, centre), rest))


def _features(table: pd.DataFrame, known: tuple[str, ...], centre: np.ndarray) -> np.ndarray:
    """(N, 4 + 5 K): logarithms of the sizes, and for each mixer that is known whether it is that, alone and times
    each of them."""
    logs = np.log(table[SIZES].to_numpy(float)) - centre
    own = [(table.model == name).to_numpy(float)[:, None] for name in known]
    return np.hstack([logs, *(np.hstack([one, one * logs]) for one in own)])
