"""How sure a score is, and which scores can be told apart.

The data are right[s, i]: is the model trained with seed s right on test item i? Seeds and items are
both draws: of the training procedure's luck, and of all the items the test set might have held. The
truth is the accuracy expected over both; with one seed nothing is known of the luck, so there the
truth is the accuracy of that one trained model over all items, and tables say so.

    right = mean + seed + item + rest      (two-way random effects; Searle et al. 1992, chapter 4)

The variance of the mean over S seeds and N items has a part known only from the S accuracies
(seeds: their variance / S, with S - 1 degrees of freedom) and a part known well from the N items
(items: variance of the item effect / N). The critical value is the mean of Student's t and the
normal's weighted by the two parts (Cochran and Cox 1957, section 4.14, for two means of unequal
variances); it is Student's where the seeds scatter, the normal's where the items do.

Why not simply the wider of t over seeds and Wilson over items? Simulated (tests/test_stats.py), that
holds the truth 93 to 100 times in 100: too often with few seeds that agree, too seldom with many whose
scatter equals the items'. The interval here: 95 with one seed; with three to ten 95.4 to 96.2 on
average, 94 to 97.5 in every regime tried; with two 93 to 98. `wider` is kept for scores without predictions.

Answers at several positions of a sequence stand and fall together. Of such an exam right[s, i] is a number, not a
truth: what lra.record.answers.by_sequence makes of the answers to sequence i. All else is the same.

Everything takes leading axes: right (..., S, N) gives estimates of shape (...). O(S N).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, ndtri, stdtrit

LEVEL = 0.05  # of error: intervals hold 95 %, a column of ranks errs in 5 of 100 tables
NORMAL = float(-ndtri(LEVEL / 2))
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A number with the two parts of its variance; fields are numbers or arrays of one shape."""

    value: Any
    seeds: Any  # variance that comes from the few seeds
    freedom: Any  # degrees of freedom of that part; 1 where it is 0
    items: Any  # variance that comes from the many items

    @property
    def error(self) -> Any:
        """Standard error."""
        return np.sqrt(self.seeds + self.items)

    def critical(self, level: Any = LEVEL) -> Any:
        """How many standard errors hold all but `level` of the cases, both sides together."""
        total = np.maximum(self.seeds + self.items, 1e-300)
        t, z = -stdtrit(self.freedom, np.divide(level, 2)), -ndtri(np.divide(level, 2))
        return z + (t - z) * (self.seeds / total)

    def interval(self, level: float = LEVEL) -> tuple[Any, Any]:
        """value -+ margin."""
        margin = self.critical(level) * self.error
        return self.value - margin, self.value + margin

    def p(self) -> Any:
        """Two-sided p-value of "the true value is 0": the level at which the interval just ends at 0."""
        low, high = np.full(np.shape(self.value), -690.0), np.zeros(np.shape(self.value))  # log level
        for _ in range(60):
            middle = (low + high) / 2
            outside = self.critical(np.exp(middle)) * self.error < np.abs(self.value)
            low, high = np.where(outside, low, middle), np.where(outside, middle, high)
        return np.where(np.abs(self.value) > 0, np.exp((low + high) / 2), 1.0)[()]


@dataclass(frozen=True)
class Scatter:
    """What the comparisons of a model need of its right (..., S, N), worked out once for all of them."""

    seeds: int
    by_item: Any  # (..., N): the share of seeds that are right
    between: Any  # variance between the seeds' accuracies; 0 for one seed
    residual: Any  # variance of what neither seed nor item explains; 0 for one seed, where it cannot be told apart


def scatter(right: Any) -> Scatter:
    right = np.asarray(right)
    seeds, items = right.shape[-2:]
    by_item = right.mean(-2)
    if seeds == 1:
        nothing = np.zeros(right.shape[:-2])
        return Scatter(seeds, by_item, nothing, nothing)
    by_seed = right.mean(-1)
    # Of zeros and ones the mean of squares is the mean: no copy of `right` is made.
    squares = by_seed.mean(-1) if right.dtype == bool else np.square(right).mean((-2, -1))
    total = seeds * items * (squares - by_seed.mean(-1) ** 2)
    explained = items * seeds * by_seed.var(-1) + seeds * items * by_item.var(-1)
    residual = np.maximum(total - explained, 0) / ((seeds - 1) * (items - 1))
    return Scatter(seeds, by_item, by_seed.var(-1, ddof=1), residual)


def accuracy(right: Any) -> Estimate:
    """Accuracy of one model from right (..., S, N)."""
    right = np.asarray(right)
    own = scatter(right)
    items = right.shape[-1]
    spread = np.maximum(own.by_item.var(-1) - own.residual / own.seeds, 0)
    freedom = np.full(own.between.shape, max(1, own.seeds - 1))[()]
    return Estimate(right.mean((-2, -1)), own.between / own.seeds, freedom, spread / items)


def interval(right: Any, level: float = LEVEL) -> tuple[Any, Any]:
    """The 95 % interval of an accuracy, within [0, 1].

    Wilson's interval (1927) for as many items as would give the estimate's variance (as for survey
    samples: Franco et al. 2019, J. Surv. Stat. Methodol. 7, 334), so that it stays right near 0 and
    1; for one seed it is Wilson's own.
    """
    estimate, items = accuracy(right), np.shape(right)[-1]
    return wilson(estimate.value, effective(estimate, items), estimate.critical(level))


def effective(estimate: Estimate, items: int) -> Any:
    """How many independent items would give this standard error; `items` if all answers agree."""
    binomial = estimate.value * (1 - estimate.value)
    variance = estimate.seeds + estimate.items
    return np.where(variance * binomial > 0, binomial / np.maximum(variance, 1e-300), items)


def wilson(value: Any, items: Any, critical: Any = NORMAL) -> tuple[Any, Any]:
    """Wilson's interval of a proportion at a critical value of the normal, by default that of LEVEL."""
    square = critical**2 / items
    half = critical * np.sqrt(value * (1 - value) / items + square / (4 * items))
    return (value + square / 2 - half) / (1 + square), (value + square / 2 + half) / (1 + square)


def wider(accuracies: Sequence[float], items: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval where only the seeds' accuracies are known: the wider of Student's t over seeds
    and Wilson over items, cut to [0, 1]. Conservative with few seeds (see above)."""
    scores = np.asarray(accuracies, float)
    low, high = wilson(scores.mean(), items, -ndtri(level / 2))
    if len(scores) > 1:
        margin = -stdtrit(len(scores) - 1, level / 2) * scores.std(ddof=1) / np.sqrt(len(scores))
        low, high = min(low, scores.mean() - margin), max(high, scores.mean() + margin)
    return max(0.0, float(low)), min(1.0, float(high))


def difference(a: Any, b: Any) -> Estimate:
    """Accuracy of `a` less that of `b` on the same items: right (..., S, N), (..., T, N), or their Scatter.

    Items are paired, seeds are not: the same seed gives two models nothing in common but the order
    of the data. Degrees of freedom by Welch (1947).
    """
    a, b = (side if isinstance(side, Scatter) else scatter(side) for side in (a, b))
    if a.by_item.shape[-1] != b.by_item.shape[-1]:
        counts = f"{a.by_item.shape[-1]} and {b.by_item.shape[-1]}"
        raise ValueError(f"items: {counts}; allowed: the same test items for both models")
    by_item = a.by_item - b.by_item
    seeds = squares = np.zeros(by_item.shape[:-1])
    noise = np.zeros(by_item.shape[:-1])
    for side in (a, b):
        seeds = seeds + side.between / side.seeds
        squares = squares + (side.between / side.seeds) ** 2 / max(1, side.seeds - 1)
        noise = noise + side.residual / side.seeds
    freedom = np.where(squares > 0, seeds**2 / np.maximum(squares, 1e-300), 1.0)
    items = np.maximum(by_item.var(-1) - noise, 0) / by_item.shape[-1]
    return Estimate(by_item.mean(-1), seeds, freedom[()], items)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates from different test sets and runs (an average over tasks)."""
    count = len(estimates)
    seeds = sum(e.seeds for e in estimates) / count**2
    squares = sum((e.seeds / count**2) ** 2 / e.freedom for e in estimates)
    freedom = np.where(np.asarray(squares) > 0, np.square(seeds) / np.maximum(squares, 1e-300), 1.0)[()]
    return Estimate(sum(e.value for e in estimates) / count, seeds, freedom, sum(e.items for e in estimates) / count**2)


def compare(a: Any, b: Any, apart: Estimate | None = None) -> Any:
    """Two-sided p-value of "both are equally accurate": right (..., S, N), (..., T, N) on the same items.

    One seed each: McNemar's mid-p test (Fagerland et al. 2013, BMC Med. Res. Methodol. 13, 91),
    which is about the two trained models. Otherwise by `difference` (`apart`, if it is known already), also where
    answers are by sequence: about the two training procedures; a side with one seed stands for its trained model only.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape[-2] == b.shape[-2] == 1 and a.dtype == b.dtype == bool:
        return mcnemar((a & ~b).sum((-2, -1)), (b & ~a).sum((-2, -1)))
    return (apart or difference(a, b)).p()


def mcnemar(only_a: Any, only_b: Any) -> Any:
    """Mid-p value from the items that only one of two models gets right."""
    fewer, total = np.minimum(only_a, only_b), np.asarray(only_a) + only_b
    up_to = bdtr(fewer.astype(float), total, 0.5)
    below = np.where(fewer > 0, bdtr(np.maximum(fewer - 1.0, 0.0), total, 0.5), 0.0)
    return np.where(2 * fewer == total, 1.0, up_to + below)[()]


def beside(a: Any, b: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """(difference, low, high): accuracy of one trained model less another's, right (N,) each on the same items, or as
    `by_sequence` gives them.

    The interval is the adjusted Wald's of Bonett and Price (2012, J. Educ. Behav. Stat. 37, 479): two items more, of
    which each model alone gets one right. So two models that agree everywhere are told to be equal only as far as the
    number of items allows, which is what a claim of equality is to rest on.
    """
    apart = np.asarray(a, float) - np.asarray(b, float)
    items = len(apart) + 2
    middle = apart.sum() / items
    margin = -ndtri(level / 2) * np.sqrt(((np.square(apart).sum() + 2) / items - middle**2) / items)
    return float(apart.mean()), float(middle - margin), float(middle + margin)


def change(apart: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """(mean, low, high) of paired differences (N,), by Student's t; the ends are the mean of a single one's."""
    apart = np.asarray(apart, float)
    if len(apart) < 2:
        return (float(apart.mean()),) * 3
    margin = -stdtrit(len(apart) - 1, level / 2) * apart.std(ddof=1) / np.sqrt(len(apart))
    return float(apart.mean()), float(apart.mean() - margin), float(apart.mean() + margin)


def ratio(a: Any, b: Any, level: float = LEVEL) -> tuple[float, float, float]:
    """(a / b, low, high) of positive numbers (R,) that were measured in R rounds, a and b in each: the geometric mean,
    with Student's interval of the logarithms."""
    middle, low, high = change(np.log(np.asarray(a, float)) - np.log(np.asarray(b, float)), level)
    return float(np.exp(middle)), float(np.exp(low)), float(np.exp(high))


def holm(p: Any) -> np.ndarray:
    """P-values (..., M) adjusted for M comparisons (Holm 1979): what stays below 0.05 holds with at
    most 5 % chance of any error among all of them."""
    p = np.asarray(p, float)
    order = p.argsort(-1, kind="stable")
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, -1), 1), -1)
    return adjusted


def pairs(models: int) -> list[tuple[int, int]]:
    """The M = models (models - 1) / 2 pairs, in the order that `ranks` expects."""
    return [(i, j) for i in range(models) for j in range(i + 1, models)]


def ranks(values: Any, p: Any, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(best, worst) rank each model may have, from values (..., K) and p-values (..., M) of `pairs`.

    Best is 1 + the number of models told to be better, worst K - the number told to be worse, each
    pair by Holm: in 95 of 100 tables every model's true rank lies in its range (Mogstad et al. 2024,
    Rev. Econ. Stud. 91, 476). Models whose ranges overlap are tied.
    """
    values, apart = np.asarray(values, float), holm(p) < level
    best = np.ones(values.shape, int)
    worst = np.full(values.shape, values.shape[-1])
    for m, (i, j) in enumerate(pairs(values.shape[-1])):
        first = apart[..., m] & (values[..., i] > values[..., j])
        second = apart[..., m] & (values[..., j] > values[..., i])
        worst[..., i] -= first
        best[..., j] += first
        worst[..., j] -= second
        best[..., i] += second
    return best, worst


def resolution(differences: Estimate, comparisons: int, level: float = LEVEL, power: float = POWER) -> float:
    """The true difference that is told apart in at least `power` of tables among `comparisons`.

    By Bonferroni, which Holm is never behind. Of several pairs (fields of shape (M,)) the upper
    quartile, because what a pair needs is itself an estimate, and most vague with few seeds.
    """
    needed = differences.critical(level / max(1, comparisons)) + differences.critical(2 * (1 - power))
    return float(np.quantile(needed * differences.error, 0.75))


def above_chance(accuracies: Sequence[float], items: int, chance: float, level: float = 0.01) -> int:
    """How many seeds have begun to learn a task that others never do: those whose accuracy is above
    chance beyond a one-sided 99 % Wilson limit."""
    low, _ = wilson(np.asarray(accuracies, float), items, -ndtri(level))
    return int((low > chance).sum())
