"""Do abilities predict? Rank correlation of what small exams say of models with what long ones do.

At most five hypotheses, written down in docs/hypotheses.md before any race was run. Each is an ability and an exam: the
sooner the one is learnt, or the more of it there is, the better the other goes. How sure that is:

rho        Spearman's, over the models that both are known of; positive where the hypothesis is right
low, high  its 95 % interval over families of models, resampled whole: relatives are one observation more than several
p          of a permutation test of the largest rho sqrt(n - 1) of all hypotheses: one that is true of none is found in
           5 of 100 tables at p < .05, however many there are (Westfall and Young 1993, chapter 2)

and beside it what needs no ability exam: the speed of a step, and the family, as the mean of a model's relatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lra.marks import abilities, about

FEWEST = 10  # models in common: of fewer nothing is told
PERMUTATIONS, RESAMPLES = 9999, 1000
ABLE, RACE = "ability", "race"  # budgets
PUBLISHED = "published"


@dataclass(frozen=True)
class Hypothesis:
    """of: the exam of an ability; what: "sequences" to learn it, or how many "pairs" or what "distance" it reaches.
    predicts: the exam in whose column the race is looked at; printed: in the ledger of published cells."""

    of: str
    what: str
    predicts: str
    printed: str


HYPOTHESES = (
    Hypothesis("state", "sequences", "listops", "listops"),
    Hypothesis("shift", "sequences", "image_jpeg", "image"),
    Hypothesis("smooth", "sequences", "image_jpeg", "image"),
    Hypothesis("recall_capacity", "pairs", "retrieval_acl", "retrieval"),
    Hypothesis("needle_1024", "distance", "pathfinder", "pathfinder"),
)


@dataclass(frozen=True)
class Found:
    """Of a hypothesis over `models`. speed, family: rho of the two that need no ability; null of too few."""

    hypothesis: Hypothesis
    models: int
    rho: float
    low: float
    high: float
    p: float
    speed: float | None
    family: float | None


def found(
    cells: pd.DataFrame,
    able: pd.DataFrame,
    published: pd.DataFrame | None = None,
    families: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Found]:
    """Of the hypotheses that at least FEWEST models are known for, on the cells of one race, or of `published` instead;
    able: cells of abilities of one precision; cells tell the speed."""
    families = about.families() if families is None else families
    speeds = cells.groupby("model").relative_speed.median()
    known = []
    for h in HYPOTHESES:
        goal = printed(published, h.printed) if published is not None else raced(cells, h.predicts)
        both = pd.DataFrame({"x": ability(able, h), "y": goal}).dropna()
        if len(both) >= FEWEST and both.x.nunique() > 1 and both.y.nunique() > 1:
            known.append((h, both))
    ps = permuted([(both.x, both.y) for _, both in known], seed)
    out = []
    for (h, both), p in zip(known, ps, strict=True):
        relatives = both.index.map(lambda model: families.get(model, model)).to_numpy()
        low, high = interval(both.x.to_numpy(), both.y.to_numpy(), relatives, seed)
        speed, family = alone(speeds.reindex(both.index), both.y), alone(of_relatives(both.y, relatives), both.y)
        out.append(Found(h, len(both), rho(both.x, both.y), low, high, p, speed, family))
    return out


def ability(able: pd.DataFrame, h: Hypothesis) -> pd.Series:
    """By model, more is better; one that has not learnt within its budget is last, with all like it. Of several rows of
    an exam that with most models."""
    own = able[(able.task == h.of) & (able.budget == ABLE) & ~able.variant.astype(bool) & (able.seeds > 0)]
    of: Callable[[Any], float | None] = _soon if h.what == "sequences" else lambda c: _extent(c, h.what)
    values = [(c.row, c.model, of(c)) for c in abilities.each(own)]
    frame = pd.DataFrame(values, columns=["row", "model", "value"]).dropna()
    if frame.empty:
        return pd.Series(dtype=float)
    best = frame.groupby("row").size().sort_index().idxmax()
    return frame[frame["row"] == best].set_index("model").value.astype(float)


def _soon(cell: Any) -> float | None:
    return None if cell.sequences is None else -float(cell.sequences)


def _extent(cell: Any, of: str) -> float | None:
    return cell.capacity.at if cell.capacity is not None and cell.capacity.of == of else None


def raced(cells: pd.DataFrame, task: str) -> pd.Series:
    """Accuracy by model in a race's column."""
    own = cells[(cells.task == task) & (cells.budget == RACE) & ~cells.variant.astype(bool)]
    return own.dropna(subset=["accuracy"]).groupby("model").accuracy.mean()


def printed(published: pd.DataFrame, task: str) -> pd.Series:
    """The median of what is printed for each of our models."""
    own = published[(published.kind == "accuracy") & (published.task == task) & published.ours.notna()]
    return own.dropna(subset=["value"]).groupby("ours").value.median()


def ranked(values: Any) -> np.ndarray:
    """Ranks (N,), the same for equals, of mean 0 and length 1; zeros where all are equal."""
    ranks = rankdata(np.asarray(values, float))
    ranks = ranks - ranks.mean()
    return ranks / (np.linalg.norm(ranks) or 1.0)


def rho(x: Any, y: Any) -> float:
    return float(ranked(x) @ ranked(y))


def alone(x: pd.Series, y: pd.Series) -> float | None:
    """rho where x is known; null of fewer than FEWEST."""
    there = x.notna().to_numpy()
    return rho(x[there], y[there]) if there.sum() >= FEWEST else None


def of_relatives(y: pd.Series, families: np.ndarray) -> pd.Series:
    """Mean of the others of a model's family; not a number where it has none."""
    values = y.to_numpy(float)
    same = (families[:, None] == families[None, :]) & ~np.eye(len(values), dtype=bool)
    count = same.sum(1)
    return pd.Series(np.where(count > 0, same @ values / np.maximum(count, 1), np.nan), index=y.index)


def permuted(pairs: Sequence[tuple[pd.Series, pd.Series]], seed: int = 0, count: int = PERMUTATIONS) -> list[float]:
    """p of each pair (x, y) of numbers by model, one-sided, adjusted for all of them: models are shuffled, the same way
    for all pairs that have them."""
    names = sorted({model for x, _ in pairs for model in x.index})
    keys = np.random.Generator(np.random.PCG64(seed)).random((count, len(names)))
    most, own = np.full(count, -np.inf), []
    for x, y in pairs:
        a, b, scale = ranked(x), ranked(y), np.sqrt(len(x) - 1)
        order = keys[:, [names.index(model) for model in x.index]].argsort(1)
        most = np.maximum(most, scale * (a[order] @ b))
        own.append(scale * float(a @ b))
    return [(1 + int((most >= value - 1e-9).sum())) / (count + 1) for value in own]


def interval(x: np.ndarray, y: np.ndarray, families: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % of rho over families drawn with replacement, each with all of its models."""
    names, own = np.unique(families, return_inverse=True)
    draw = np.random.Generator(np.random.PCG64(seed))
    times = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    low, high = np.quantile(weighted(x, y, times[:, own].astype(float)), [0.025, 0.975])
    return float(low), float(high)


def weighted(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """rho (R,) where model n of x, y (N,) is there `times` (R, N); 0 where all are equal."""
    ranks = []
    for values in (x, y):
        _, place = np.unique(values, return_inverse=True)
        counts = times @ np.eye(place.max() + 1)[place]  # (R, distinct values)
        middle = counts.cumsum(1) - counts / 2
        found = middle[:, place]
        ranks.append(found - (times * found).sum(1, keepdims=True) / times.sum(1, keepdims=True))
    a, b = ranks
    spread = np.sqrt((times * a * a).sum(1) * (times * b * b).sum(1))
    return (times * a * b).sum(1) / np.where(spread > 1e-9, spread, np.inf)
