"""Cells of abilities: what is learnt, when, at which rates, how sure; against slow twins and simulated exams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra import results
from lra.marks import abilities, stats
from lra.marks.abilities import NEVER, Rate, Window
from lra.record.answers import by_sequence
from tests.help import answered, scored

RNG = np.random.default_rng


def cell(folder: Path, model: str = "linear") -> Any:
    found = results.load(folder).abilities
    (one,) = abilities.each(found[found.model == model])
    return one


# --- how sure: answers at positions, by sequence


def drawn(rng: Any, boards: int, seeds: int, sequences: int, mean: float, scatter: float) -> tuple[Any, Any, Any]:
    """right (boards, seeds, N), clusters (N,), and each trained model's accuracy over all sequences (boards, seeds).

    A sequence of m answers, one to twelve, is of one kind for all seeds: known, with all answers right but few, or
    not, with shares that fall with m, so that the accuracy is a ratio. `scatter`: of the seeds' chances.
    """
    size = rng.integers(1, 13, sequences)
    clusters = np.repeat(np.arange(sequences), size)
    luck = np.clip(mean + scatter * rng.standard_normal((boards, seeds, 1)), 0.01, 0.99)
    known = rng.random((boards, 1, sequences)) < luck
    weight = np.arange(1, 13)
    unknown = (weight * 0.8 / weight).sum() / weight.sum()
    chance = np.where(known, 1 - 0.02, 0.8 / size)[..., clusters]
    truth = luck[..., 0] * 0.98 + (1 - luck[..., 0]) * unknown
    return rng.random(chance.shape) < chance, clusters, truth


def test_the_error_is_that_of_a_bootstrap_over_sequences() -> None:
    right, clusters, _ = drawn(RNG(0), 1, 1, 300, 0.7, 0.0)
    values = by_sequence(right[0], clusters)
    estimate = stats.accuracy(values)
    assert estimate.value == pytest.approx(right.mean())
    rng, own = RNG(1), [right[0, 0, clusters == c] for c in range(300)]
    again = [np.concatenate([own[c] for c in rng.integers(0, 300, 300)]).mean() for _ in range(2000)]
    assert estimate.error == pytest.approx(np.std(again), rel=0.06)
    assert stats.accuracy(right[0]).error < 0.7 * np.std(again), "answers of one sequence are no independent items"


@pytest.mark.parametrize(("seeds", "mean", "scatter"), [(1, 0.5, 0.0), (1, 0.93, 0.0), (5, 0.6, 0.05)])
def test_the_interval_holds_the_truth(seeds: int, mean: float, scatter: float) -> None:
    held = naive = 0
    rng, boards = RNG(2), 800
    for _ in range(boards):
        right, clusters, truth = drawn(rng, 1, seeds, 200, mean, scatter)
        expected = truth.mean() if seeds == 1 else drawn_mean(mean)
        low, high = stats.interval(by_sequence(right[0], clusters))
        held += low <= expected <= high
        low, high = stats.interval(right[0])
        naive += low <= expected <= high
    assert 0.93 <= held / boards <= 0.98
    assert seeds > 1 or naive / boards < 0.88


def drawn_mean(mean: float) -> float:
    weight = np.arange(1, 13)
    return mean * 0.98 + (1 - mean) * 12 * 0.8 / weight.sum()


def test_two_models_that_are_as_good_are_told_apart_once_in_twenty() -> None:
    """By sequence; answers as items, as McNemar takes them, tell them apart far more often."""
    rng, apart, naive, boards = RNG(4), 0, 0, 600
    for _ in range(boards):
        size = rng.integers(1, 13, 200)
        clusters = np.repeat(np.arange(200), size)
        first, second = (((rng.random(200) < 0.7)[clusters] & (rng.random(len(clusters)) < 0.95))[None] for _ in "ab")
        apart += stats.compare(by_sequence(first, clusters), by_sequence(second, clusters)) < 0.05
        naive += stats.compare(first, second) < 0.05
    assert 0.03 <= apart / boards <= 0.075 and naive / boards > 0.2


def test_one_with_all_answers_right_is_as_sure_as_its_sequences() -> None:
    """Not as its answers, of which nothing is known but that they agree within a sequence."""
    right, clusters = np.ones((1, 600), bool), np.repeat(np.arange(50), 12)
    low, high = stats.interval(by_sequence(right, clusters))
    assert (low, high) == pytest.approx(stats.wilson(1.0, 50))


# --- what is learnt, and when


def test_half_is_the_median_of_kaplan_and_meier() -> None:
    """All are followed to one limit, so that the curve of those that have not learnt is a plain share."""
    rng = RNG(3)
    for n in (1, 2, 3, 4, 5, 8):
        for _ in range(20):
            when = rng.integers(1, 9, n).astype(float)
            when[rng.random(n) < 0.4] = NEVER
            times = [t for t in range(1, 9) if (when > t).mean() <= 0.5]
            assert abilities.half(when.tolist()) == (times[0] if times else NEVER)
    assert abilities.half([]) is None


def test_a_cell_counts_seeds_and_censors_those_that_have_not_learnt(tmp_path: Path) -> None:
    for seed, (score, sequences) in enumerate([(1.0, 9600), (0.3, None), (1.0, 12_800), (0.0, None), (1.0, 48_000)]):
        scored.run(tmp_path, "linear", score, seed=seed, sequences=sequences)
    found = cell(tmp_path)
    assert (found.learnt, found.seeds, found.failed) == (3, 5, 0)
    assert (found.sequences, found.core_seconds, found.limit) == (48_000, 15.0, 160_000)
    assert found.score == found.most == 1.0 and -0.1 < found.least < 0.1
    scored.run(tmp_path, "linear", 0.1, seed=5)
    scored.run(tmp_path, "linear", 0.1, seed=6)
    assert (cell(tmp_path).sequences, cell(tmp_path).core_seconds) == (NEVER, NEVER), "3 of 7"


def test_one_that_is_learnt_on_test_and_was_not_on_valid_took_all_it_had(tmp_path: Path) -> None:
    scored.run(tmp_path, "linear", 1.0, sequences=None)
    assert (cell(tmp_path).learnt, cell(tmp_path).sequences, cell(tmp_path).core_seconds) == (1, 160_000, NEVER)


def test_the_interval_of_a_cell_is_by_sequence(tmp_path: Path) -> None:
    scored.run(tmp_path, "linear", 0.5)
    found = cell(tmp_path)
    right = scored.answers("shift", 0.5 * 0.875 + 0.125, scored.own_seed("linear", "shift", 0))
    low, high = stats.interval(by_sequence((right[0] == right[1])[None], right[2]))
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((low, high))
    assert (found.low, found.high) == pytest.approx(((low - 0.125) / 0.875, (high - 0.125) / 0.875))
    assert found.low < found.score < found.high


def test_failures_are_cells_and_machines_are_one(tmp_path: Path) -> None:
    """Scores and sequences are the same everywhere; seconds are those of the machine with most seeds."""
    for seed, name in enumerate(("A", "B", "B")):
        machine = {"name": name, "device": "cpu", "threads": 1}
        scored.run(tmp_path, "linear", 1.0, seed=seed, sequences=3200 * (seed + 1), machine=machine)
    scored.run(tmp_path, "linear", None, seed=3)
    scored.run(tmp_path, "local", None)
    found, lost = cell(tmp_path), cell(tmp_path, "local")
    assert (found.seeds, found.failed, found.learnt, found.machine) == (3, 1, 3, "B")
    assert (found.sequences, found.core_seconds) == (6400, 2.0)
    assert not abilities.whole(found) and (lost.seeds, lost.status, lost.score) == (0, "diverged", None)
    assert "loss is not a number" in lost.reason


def test_exams_of_abilities_are_on_no_other_board(tmp_path: Path) -> None:
    """By their score; one that failed, by what its exam asks for."""
    scored.run(tmp_path, "linear", 0.5, config={})
    scored.run(tmp_path, "local", None)
    answered.run(tmp_path, "linear", 0.5)
    found = results.load(tmp_path)
    assert found.cells["row"].tolist() == ["listops"] and found.abilities.model.tolist() == ["linear", "local"]


# --- at which rates


def ladder(*rungs: tuple[float, str]) -> tuple[Rate, ...]:
    """x: learnt; .: not, and trained to the end; dropped, stopped: before it."""
    return tuple(Rate(rate, how == "x", how if how in ("dropped", "stopped") else None) for rate, how in rungs)


def test_a_window_is_open_where_the_next_rate_cannot_tell() -> None:
    closed = ladder((1.0, "."), (2.0, "x"), (3.0, "x"), (4.0, "."))
    assert abilities.window([closed]) == Window(2.0, 3.0, None, None)
    cut = ladder((1.0, "dropped"), (2.0, "x"), (3.0, "stopped"))
    assert abilities.window([cut]) == Window(2.0, 2.0, "1 was dropped before the end", "3 was stopped before the end")
    ends = ladder((1.0, "x"), (2.0, "x"))
    assert abilities.window([ends]) == Window(1.0, 2.0, "no lower rate was tried", "no higher rate was tried")
    assert abilities.window([ladder((1.0, "."))]) is None and abilities.window([]) is None
    gap = ladder((1.0, "x"), (2.0, "."), (3.0, "x"))
    assert abilities.window([gap]).without == (2.0,)


def test_seeds_widen_a_window_and_close_its_ends() -> None:
    one, other = ladder((1.0, "dropped"), (2.0, "x"), (3.0, "x")), ladder((1.0, "."), (2.0, "dropped"), (3.0, "x"))
    assert abilities.window([one, other]) == Window(2.0, 3.0, None, "no higher rate was tried")


def test_rates_are_judged_by_the_levels_of_valid(tmp_path: Path) -> None:
    """The law of valid may be another than that of test, and with it the floor."""
    rungs = [scored.rung(0.1, 0.97, ended="dropped", steps=300), scored.rung(0.2, 0.98), scored.rung(0.3, 0.5)]
    rungs[2]["ended"], rungs[2]["steps"] = "diverged", 70
    made = scored.run(tmp_path, "linear", 1.0, ladder=rungs)
    assert cell(tmp_path).rates == Window(0.2, 0.2, "0.1 was dropped before the end", None)
    score = dict(made.score) | {"on_valid": {"floor": 0.0, "ceiling": 1.0}}
    scored.run(tmp_path, "linear", 1.0, ladder=rungs, score=score)
    assert cell(tmp_path).rates.low == 0.2
    score["on_valid"] = {"floor": 0.0, "ceiling": 0.99}
    scored.run(tmp_path, "linear", 1.0, ladder=rungs, score=score)
    assert cell(tmp_path).rates.low == 0.1
    del score["on_valid"]
    scored.run(tmp_path, "linear", 1.0, ladder=rungs, score=score)
    assert cell(tmp_path).rates is None


def test_models_stand_by_how_many_exams_every_seed_has_learnt(tmp_path: Path) -> None:
    good, half, bad = (1.0,), (1.0, 0.2), (0.1,)
    scored.board(tmp_path, {
        "one": {"shift": good, "state": half}, "none": {"shift": bad, "state": bad},
        "two": {"shift": good, "state": good}, "some": {"shift": half, "state": half},
        "lost": {"shift": (None,)},
    })  # fmt: skip
    rows, models = abilities.ordered(results.load(tmp_path).abilities)
    assert (rows, models) == (["shift", "state"], ["two", "one", "some", "none", "lost"])
