"""How good the predictor is: of shapes, and of mixers, that it has not seen, within each length; and what choosing by
it costs on the shapes that were measured, where the best choice is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lra.search.predict import fitted, parts_of_flops

FOLDS = 6
BOUNDS = (0.2, 0.35, 0.5, 0.65, 0.8)  # shares of a mixer's shapes within a bound
TRIES = 5  # candidates of a mixer that are measured until one is within the bounds
MARGIN = 1.3  # times a bound that a prediction may be: what is measured anyway may be hoped for

Fit = Callable[[pd.DataFrame, np.ndarray], Callable[[pd.DataFrame], np.ndarray]]


@dataclass(frozen=True)
class Score:
    """Within one length: Spearman's rank correlation, and the 90th percentile of |predicted / measured - 1|; of the
    predictor, and of FLOPs times one rate."""

    held_out: str
    length: int
    points: int
    rank: float
    error: float
    flops_rank: float
    flops_error: float


def by_shape(table: pd.DataFrame) -> list[np.ndarray]:
    """FOLDS masks (N,): each size is in one, with all its mixers and lengths."""
    sizes = table[["depth", "dim", "heads"]].apply(tuple, axis=1)
    drawn = np.random.default_rng(0).permutation(len(found := sorted(set(sizes))))
    folds = [{found[i] for i in drawn[k::FOLDS]} for k in range(FOLDS)]
    return [mask for fold in folds if (mask := sizes.isin(fold).to_numpy()).any()]


def by_mixer(table: pd.DataFrame) -> list[np.ndarray]:
    return [(table.model == name).to_numpy() for name in sorted(set(table.model))]


def held_out(table: pd.DataFrame, target: np.ndarray, masks: Sequence[np.ndarray], fit: Fit) -> np.ndarray:
    """(N,) predictions, each by what was fitted to the other points alone."""
    out = np.full(len(table), np.nan)
    for mask in masks:
        out[mask] = fit(table[~mask], target[~mask])(table[mask])
    return out


def of_flops(table: pd.DataFrame, target: np.ndarray) -> Any:
    return fitted(table, target, parts_of_flops, corrected=False)


def scores(table: pd.DataFrame, target: np.ndarray, fit: Fit = fitted) -> list[Score]:
    """Of each length, with shapes held out and with mixers; those alone where there are two mixers at least."""
    out = []
    kinds = {"shapes": by_shape(table)} | ({"a mixer": by_mixer(table)} if table.model.nunique() > 1 else {})
    for name, masks in kinds.items():
        if len(masks) < 2:
            continue
        ours, theirs = (held_out(table, target, masks, f) for f in (fit, of_flops))
        for length in sorted(set(table.length)):
            here = (table.length == length).to_numpy()
            both = [(ranked(p[here], target[here]), far(p[here], target[here])) for p in (ours, theirs)]
            out.append(Score(name, int(length), int(here.sum()), *both[0], *both[1]))
    return out


def ranked(predicted: np.ndarray, measured: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if len(measured) < 3:
        return float("nan")
    return float(spearmanr(predicted, measured).statistic)


def far(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(np.quantile(np.abs(predicted / measured - 1), 0.9))


def chosen(worth: np.ndarray, predicted: np.ndarray, measured: np.ndarray, bound: np.ndarray | float) -> float:
    """What the search would find: of the first TRIES by worth among those predicted to be within MARGIN of the bound,
    which are then measured, the first that is within it; 0 where none is. predicted, measured: (N,) or (N, quantities).
    """
    inside = np.flatnonzero(np.all(np.atleast_2d((predicted <= MARGIN * bound).T), axis=0))
    tried = inside[np.argsort(-worth[inside], kind="stable")][:TRIES]
    good = [worth[i] for i in tried if np.all(measured[i] <= bound)]
    return float(good[0]) if good else 0.0


def regrets(table: pd.DataFrame, worth: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """1 - found / best for each mixer, length and bound, both quantities bounded at a time by the same share of what
    was measured: by shapes that were held out, against all of the grid. predicted, measured: (N, quantities)."""
    out = []
    for _, at in table.groupby(["model", "length"]).indices.items():
        for share in BOUNDS:
            bound = np.quantile(measured[at], share, axis=0)
            best = max((worth[i] for i in at if np.all(measured[i] <= bound)), default=0.0)
            if best > 0:
                out.append(1 - chosen(worth[at], predicted[at], measured[at], bound) / best)
    return np.array(out)
