"""Intervals, paired tests and ranks, against libraries and against simulated tables with known truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtri

from lra.marks import stats

RNG = np.random.default_rng


def simulate(
    rng: np.random.Generator, boards: int, seeds: int, items: int, means: list[float], item: float, scatter: float
) -> tuple[np.ndarray, np.ndarray]:
    """right (boards, models, seeds, items) of models with known expected accuracies, and the accuracy
    of each trained model over all items (boards, models, seeds).

    A probit model: `item` is the share of the latent variance that belongs to the item, half of it
    common to all models; `scatter` is the standard deviation of the seeds' accuracies.
    """
    at = ndtri(np.array(means))
    luck = scatter * np.sqrt(2 * np.pi) * np.exp(at**2 / 2)
    place = (at * np.sqrt(1 + luck**2))[:, None] + rng.standard_normal((boards, len(means), seeds)) * luck[:, None]

    def noise(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    latent = noise(boards, len(means), seeds, items) * np.float32(np.sqrt(1 - item))
    latent += noise(boards, 1, 1, items) * np.float32(np.sqrt(item / 2))
    latent += noise(boards, len(means), 1, items) * np.float32(np.sqrt(item / 2))
    latent += place[..., None].astype(np.float32)
    return latent > 0, scipy.stats.norm.cdf(place)


def covered(low: np.ndarray, high: np.ndarray, truth: np.ndarray | float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


# What a leaderboard may hold: (seeds, test items, accuracy, item share, scatter of seeds).
REGIMES = [
    (1, 300, 0.52, 0.5, 0.01),
    (1, 2000, 0.38, 0.5, 0.02),
    (3, 2000, 0.38, 0.5, 0.01),
    (3, 500, 0.62, 0.5, 0.02),
    (3, 300, 0.90, 0.3, 0.01),
    (5, 1000, 0.60, 0.7, 0.02),
]


def coverage(boards: int, batch: int = 500) -> list[float]:
    """Coverage of each regime over that many simulated boards of one cell a regime."""
    rng = RNG(0)
    out = []
    for seeds, items, mean, item, scatter in REGIMES:
        hits = []
        for _ in range(boards // batch):
            right, trained = simulate(rng, batch, seeds, items, [mean], item, scatter)
            low, high = stats.interval(right[:, 0])
            hits.append(covered(low, high, trained[:, 0, 0] if seeds == 1 else mean))
        out.append(float(np.mean(hits)))
    return out


def test_intervals_cover() -> None:
    each = coverage(2000)
    assert 0.94 < np.mean(each) < 0.97 and all(0.93 < c < 0.985 for c in each), each


@pytest.mark.slow
def test_intervals_cover_on_ten_thousand_boards() -> None:
    each = coverage(10_000)
    print([round(100 * c, 1) for c in each])
    assert abs(np.mean(each) - 0.95) < 0.01 and all(0.94 < c < 0.98 for c in each), each


def test_the_wider_of_two_intervals_is_off_both_ways() -> None:
    """Why the interval is not just the wider of t over seeds and Wilson over items."""

    def share(seeds: int, scatter: float, item: float) -> float:
        right, _ = simulate(RNG(1), 1000, seeds, 300, [0.4], item, scatter)
        ends = np.array([stats.wider(r[0].mean(-1), 300) for r in right])
        return covered(ends[:, 0], ends[:, 1], 0.4)

    assert share(3, 0.0, 0.3) > 0.985
    assert share(10, 0.11, 0.8) < 0.945


def test_one_seed_is_wilson() -> None:
    right = RNG(0).random((1, 300)) < 0.8
    assert stats.interval(right) == pytest.approx(stats.wilson(right.mean(), 300), abs=1e-6)
    exact = scipy.stats.binomtest(int(right.sum()), 300).proportion_ci(method="wilson")
    assert stats.interval(right) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("seeds", [1, 3])
def test_all_right_and_all_wrong_keep_an_interval(seeds: int) -> None:
    low, high = stats.interval(np.ones((seeds, 100), bool))
    assert 0.95 < low < 0.99 and high == pytest.approx(1)
    low, high = stats.interval(np.zeros((seeds, 100), bool))
    assert low == pytest.approx(0, abs=1e-12) and 0.01 < high < 0.05


def test_variances_are_those_of_the_two_way_layout() -> None:
    """Against the sums of squares written out, and against t when items hardly matter."""
    right, _ = simulate(RNG(2), 1, 4, 200, [0.5], 0.5, 0.1)
    x = right[0, 0].astype(float)
    grand, rows, columns = x.mean(), x.mean(1), x.mean(0)
    residual = ((x - rows[:, None] - columns[None] + grand) ** 2).sum() / (3 * 199)
    estimate = stats.accuracy(x > 0)
    assert estimate.seeds == pytest.approx(rows.var(ddof=1) / 4) and estimate.freedom == 3
    assert estimate.items == pytest.approx((columns.var() - residual / 4) / 200)
    t = scipy.stats.t.interval(0.95, 3, rows.mean(), scipy.stats.sem(rows))
    pure = stats.Estimate(rows.mean(), rows.var(ddof=1) / 4, 3, 0.0)
    assert pure.interval() == pytest.approx(t)


def test_paired_tests_agree_with_scipy() -> None:
    for b, c in ((3, 12), (0, 5), (7, 7), (0, 0), (40, 61)):
        mid = scipy.stats.binom.cdf(min(b, c), b + c, 0.5) * 2 - scipy.stats.binom.pmf(min(b, c), b + c, 0.5)
        assert stats.mcnemar(np.array(b), np.array(c)) == pytest.approx(1.0 if b == c else mid)
    x, y = RNG(0).normal(0.5, 0.02, (2, 5))
    d = stats.Estimate(x.mean() - y.mean(), (x.var(ddof=1) + y.var(ddof=1)) / 5, 0.0, 0.0)
    welch = scipy.stats.ttest_ind(x, y, equal_var=False)
    d = stats.Estimate(d.value, d.seeds, welch.df, 0.0)
    assert d.p() == pytest.approx(welch.pvalue, rel=1e-6)


def test_one_trained_model_against_another_is_mcnemar_with_more_seeds_it_is_welch() -> None:
    """By hand: 12 items that only one of two gets right, 3 against 9: (2 (1 + 12 + 66) + 220) / 2^12 = 378 / 4096."""
    a, b = np.ones((2, 1, 40), bool)
    a[0, :3], b[0, 3:12] = False, False
    assert stats.compare(a, b) == pytest.approx(378 / 4096)
    first, second = (RNG(5).random((9, 400)) < 0.6)[:4], (RNG(6).random((9, 400)) < 0.7)[:7]
    apart = stats.difference(first, second)
    welch = scipy.stats.ttest_ind(first.mean(1), second.mean(1), equal_var=False)
    assert apart.freedom == pytest.approx(welch.df) and apart.value == pytest.approx(first.mean() - second.mean())
    assert stats.compare(first, second) == pytest.approx(apart.p())
    assert stats.compare(first[:1], second) == pytest.approx(stats.difference(first[:1], second).p())


def test_resolution_is_bonferronis_and_the_power_together() -> None:
    """Of a standard error of 0.01 that comes from items: z(0.975) + z(0.8) errors, z(0.9975) + z(0.8) among ten."""
    apart = stats.Estimate(np.zeros(1), np.zeros(1), np.ones(1), np.full(1, 1e-4))
    assert stats.resolution(apart, 1) == pytest.approx(0.01 * (1.959964 + 0.841621), rel=1e-5)
    assert stats.resolution(apart, 10) == pytest.approx(0.01 * (2.807034 + 0.841621), rel=1e-5)
    assert stats.resolution(apart, 0) == stats.resolution(apart, 1), "nothing to compare with is no division by it"
    several = stats.Estimate(np.zeros(5), np.zeros(5), np.ones(5), np.array([1, 4, 9, 16, 25]) * 1e-4)
    assert stats.resolution(several, 1) == pytest.approx(0.04 * (1.959964 + 0.841621), rel=1e-5), "the upper quartile"


def test_wilson_by_hand() -> None:
    """Of 10 items 8 at z = 2: (0.8 + 0.2 -+ 2 sqrt(0.16 / 10 + 0.01)) / 1.4."""
    low, high = stats.wilson(0.8, 10, 2.0)
    assert (low, high) == pytest.approx(((1 - 2 * 0.026**0.5) / 1.4, (1 + 2 * 0.026**0.5) / 1.4))


def test_p_and_interval_say_the_same() -> None:
    right, _ = simulate(RNG(3), 200, 3, 300, [0.5, 0.55], 0.5, 0.01)
    d = stats.difference(right[:, 0], right[:, 1])
    low, high = d.interval()
    assert np.array_equal(d.p() < 0.05, (low > 0) | (high < 0)) and 0.1 < (d.p() < 0.05).mean() < 0.9
    reverse = stats.difference(right[:, 1], right[:, 0])
    assert np.allclose(reverse.value, -d.value) and np.allclose(reverse.p(), d.p())


def test_holm_is_the_textbook_procedure() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = RNG(0).random((50, 7)) ** 3
    for row, adjusted in zip(p, stats.holm(p), strict=True):
        order = np.argsort(row)
        running = 0.0
        for step, i in enumerate(order):
            running = max(running, min(1, (7 - step) * row[i]))
            assert adjusted[i] == pytest.approx(running)


def test_ranks_of_a_column_by_hand() -> None:
    # a and b are told from c; nothing tells a from b.
    best, worst = stats.ranks([0.9, 0.88, 0.5], [0.6, 0.001, 0.002])
    assert list(zip(best, worst, strict=True)) == [(1, 2), (1, 2), (3, 3)]
    best, worst = stats.ranks([0.9, 0.5], [0.05])
    assert list(zip(best, worst, strict=True)) == [(1, 2), (1, 2)], "at the level itself nothing is told"
    best, worst = stats.ranks([0.5, 0.5], [1.0])
    assert list(zip(best, worst, strict=True)) == [(1, 2), (1, 2)]


def columns(boards: int, seeds: int, items: int = 400, scatter: float = 0.01) -> dict[str, float]:
    """Shares of simulated columns with a false separation, and of the far pair with a false tie.

    Five models: three equally good, one behind by the resolution the column states, one far behind.
    """
    rng = RNG(4)
    trial, _ = simulate(rng, 300, seeds, items, [0.6, 0.6], 0.5, scatter)
    apart = float(stats.resolution(stats.difference(trial[:, 0], trial[:, 1]), 10))
    means = [0.6, 0.6, 0.6, 0.6 - apart, 0.6 - 2 * apart]
    lucky = 0.0 if seeds == 1 else scatter  # with one seed the test is about the trained models
    wrong, tied, total = 0, 0, 0
    for _ in range(boards // 250):
        right, _ = simulate(rng, 250, seeds, items, means, 0.5, lucky)
        p = np.stack([stats.compare(right[:, i], right[:, j]) for i, j in stats.pairs(5)], axis=-1)
        best, worst = stats.ranks(right.mean((-2, -1)), p)
        true_best, true_worst = np.array([1, 1, 1, 4, 5]), np.array([3, 3, 3, 4, 5])
        wrong += int(((best > true_best) | (worst < true_worst)).any(-1).sum())
        tied += int((stats.holm(p)[:, stats.pairs(5).index((0, 3))] >= 0.05).sum())
        total += 250
    return {"false separations": wrong / total, "false ties": tied / total, "resolution": apart}


@pytest.mark.parametrize("seeds", [1, 3])
def test_ranks_keep_their_promise(seeds: int) -> None:
    """At most 5 % of columns separate models falsely; at most 20 % tie what the resolution tells apart."""
    shares = columns(1000, seeds)
    assert shares["false separations"] < 0.065 and shares["false ties"] < 0.24, shares


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_ranks_keep_their_promise_on_ten_thousand_boards(seeds: int) -> None:
    shares = columns(10_000, seeds)
    print(shares)
    assert shares["false separations"] < 0.055 and shares["false ties"] < 0.21, shares


def test_solve_rate_counts_seeds_above_chance() -> None:
    assert stats.above_chance([0.5, 0.52, 0.99], 1000, 0.5) == 1
    assert stats.above_chance([0.54], 1000, 0.5) == 1 and stats.above_chance([0.54], 200, 0.5) == 0


def test_other_test_sets_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="items: 3 and 4"):
        stats.difference(np.ones((1, 3), bool), np.ones((1, 4), bool))


def test_beside_holds_the_difference_of_two_models_on_the_same_items() -> None:
    """By its law: of models that differ on few items, on none in nearly every draw, and on many."""
    draw = np.random.default_rng(7)
    for only_a, only_b, least in ((0.01, 0.002, 0.93), (0.002, 0.002, 0.95), (0.2, 0.1, 0.93)):
        inside = 0
        for _ in range(1000):
            u = draw.random(300)
            low, high = stats.beside(u < only_a + 0.5, (u > only_a) & (u < only_a + 0.5 + only_b))[1:]
            inside += low <= only_a - only_b <= high
        assert inside / 1000 >= least
    same = np.ones(500, bool)
    value, low, high = stats.beside(same, same)
    assert value == 0 and low == -high and 0.004 < high < 0.007  # agreement on 500 items proves no more


def test_a_ratio_of_rounds_is_of_what_both_met() -> None:
    """A machine that slows down by a half moves neither the ratio nor, as it moves both, its interval."""
    draw, inside = np.random.default_rng(3), 0
    for _ in range(400):
        slow = 1 + draw.random(8)
        a, b = (slow * s * np.exp(0.05 * draw.normal(size=8)) for s in (2.0, 1.0))
        _, low, high = stats.ratio(a, b)
        inside += low <= 2 <= high
        assert high / low < 1.5
    assert 0.92 < inside / 400 < 0.98
    assert stats.ratio([3.0], [2.0]) == pytest.approx((1.5, 1.5, 1.5))
