"""How good the predictor is: of shapes, and of mixers, that it has not seen, within each length; and what choosing by
it costs on the shapes that were measured, where the best choice is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lra.search.predict import fitted, parts_of_bytes, parts_of_flops

FOLDS = 6
BOUNDS = (0.2, 0.35, 0.5, 0.65, 0.8)  # shares of a mixer's shapes within a bound
TRIES = 5  # shapes of a mixer that are measured because of what is predicted of them
SHOWN = (1, 2, TRIES)  # for which the regret is told: of a small grid the last is a good part

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


@dataclass(frozen=True)
class Quality:
    """Of a table. scores: of latency. memory: the 90th percentile of its error, shapes held out. surprises: (N, 2)
    latency and memory, measured over predicted, of shapes held out. regrets: by how many are tried, where latency is
    predicted and where it is FLOPs times a rate. noise: the 90th percentile of what two halves of a latency's steps
    differ by."""

    scores: list[Score]
    memory: float
    surprises: np.ndarray
    regrets: dict[int, tuple[np.ndarray, np.ndarray]]
    noise: float

    @classmethod
    def of(cls, table: pd.DataFrame) -> Quality:
        latency, peak = (table[c].to_numpy(float) for c in ("latency", "peak_bytes"))
        folds = by_shape(table)
        held = held_out(table, peak, folds, lambda t, y: fitted(t, y, parts_of_bytes)) + table.resident_bytes
        ours, theirs = (np.column_stack([held_out(table, latency, folds, f), held]) for f in (fitted, of_flops))
        real, worth = table[["latency", "memory"]].to_numpy(float), table.stack_parameters.to_numpy(float)
        return cls(
            scores(table, latency),
            far(ours[:, 1], real[:, 1]),
            real / ours,
            {n: (regrets(table, worth, ours, real, n), regrets(table, worth, theirs, real, n)) for n in SHOWN},
            float(np.quantile(table.noise, 0.9)),
        )


def sizes(table: pd.DataFrame) -> pd.Series:
    return table[["depth", "dim", "heads"]].apply(tuple, axis=1)


def by_shape(table: pd.DataFrame) -> list[np.ndarray]:
    """FOLDS masks (N,): each size is in one, with all its mixers and lengths."""
    own = sizes(table)
    drawn = np.random.default_rng(0).permutation(len(found := sorted(set(own))))
    folds = [{found[i] for i in drawn[k::FOLDS]} for k in range(FOLDS)]
    return [mask for fold in folds if (mask := own.isin(fold).to_numpy()).any()]


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


def chances(predicted: np.ndarray, surprises: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """(N,): the share of surprises (M, quantities), which are measured over predicted of shapes that were held out,
    with which a prediction (N, quantities) would be within its bound (quantities,)."""
    return np.mean(np.all(predicted[:, None] * surprises[None] <= bound, axis=2), axis=1)


def tried(worth: np.ndarray, chance: np.ndarray, best: float) -> int | None:
    """Which is measured next: from which most is to be expected above the best that is measured within the bounds, as
    much as it has more times the chance of it. null where nothing is. worth: (N,); chance: (N,), 0 for what was tried.
    """
    hope = np.maximum(worth - best, 0) * chance
    return int(np.argmax(hope)) if len(hope) and hope.max() > 0 else None


def chosen(worth: np.ndarray, chance: np.ndarray, within: np.ndarray, tries: int = TRIES) -> float:
    """What the largest is worth that is found within the bounds; 0 where none is. within: (N,) bool, as measured."""
    best, left = 0.0, chance.copy()
    for _ in range(tries):
        i = tried(worth, left, best)
        if i is None:
            break
        left[i] = 0
        best = max(best, worth[i]) if within[i] else best
    return best


def regrets(
    table: pd.DataFrame, worth: np.ndarray, predicted: np.ndarray, measured: np.ndarray, tries: int = TRIES
) -> np.ndarray:
    """1 - found / best for each mixer, length and bound, both quantities bounded at a time by the same share of what
    was measured: by predictions of shapes that were held out, against all of the grid; what they are wrong by is known
    of other sizes alone. predicted, measured: (N, quantities)."""
    out, own = [], sizes(table).to_numpy()
    others = own[:, None] != own
    ratios = predicted[:, None] * (measured / predicted)  # (N, N, quantities)
    for _, at in table.groupby(["model", "length"]).indices.items():
        for share in BOUNDS:
            bound = np.quantile(measured[at], share, axis=0)
            within = np.all(measured[at] <= bound, axis=1)
            if within.any():
                chance = np.mean(np.all(ratios[at] <= bound, axis=2), axis=1, where=others[at])
                out.append(1 - chosen(worth[at], chance, within, tries) / worth[at][within].max())
    return np.array(out)
