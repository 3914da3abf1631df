"""Where a score crosses its level: by hand, against a slow search, and how often its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from lra.marks import capacity as module
from lra.marks.capacity import LEVEL, Capacity, capacity, crossing, octaves, sight

STARTS = (2, 4, 8, 16)


def test_by_hand() -> None:
    assert crossing(STARTS, np.array([1.0, 1.0, 0.8, 0.1])) == pytest.approx(np.log2(4) + 0.5 + 0.5)
    assert crossing(STARTS, np.array([1.0, 0.9, 0.9, 0.9])) == np.inf
    assert crossing(STARTS, np.array([0.89, 1.0, 1.0, 1.0])) == -np.inf
    assert crossing(STARTS, np.array([0.95, 0.5, 1.0, 0.1])) == pytest.approx(
        1.5 + 0.05 / 0.45
    )  # the first fall counts


def test_against_a_walk_along_the_line() -> None:
    draw = np.random.default_rng(0)
    for scores in draw.uniform(0.6, 1.1, (200, 4)):
        steps = np.linspace(1.5, 4.5, 30001)
        line = np.interp(steps, [1.5, 2.5, 3.5, 4.5], scores)
        under = np.flatnonzero(line < LEVEL)
        slow = np.inf if not len(under) else -np.inf if scores[0] < LEVEL else steps[under[0]]
        assert crossing(STARTS, scores) == pytest.approx(slow, abs=2e-4)


def answers(limit: float, seed: int, sequences: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a model that knows an answer of difficulty d with probability 1 - d / limit / 10, all of a sequence alike."""
    draw = np.random.default_rng(seed)
    octave = draw.integers(4, size=sequences)
    knows = draw.random(sequences) < 1 - np.array(STARTS)[octave] * np.sqrt(2) / limit / 10
    return np.repeat(knows, 3), np.repeat(octave, 3), np.repeat(np.arange(sequences), 3)


def test_from_answers() -> None:
    right, kinds, clusters = answers(6.0, 1, 4_000)
    found = capacity(STARTS, [right], kinds, clusters, (0.0, 1.0))
    assert (
        found.value == pytest.approx(6.0, rel=0.1)
        and found.low < 6.0 < found.high
        and found.words == f"{found.value:.2g}"
    )
    assert capacity(STARTS, [np.ones(len(kinds), bool)], kinds, clusters, (0.0, 1.0)).words == ">=16"
    assert capacity(STARTS, [np.zeros(len(kinds), bool)], kinds, clusters, (0.0, 1.0)).words == "<2"
    half = capacity(STARTS, [right], kinds, clusters, (0.0, 1 / LEVEL))  # a higher ceiling: never at the level
    assert half.below == 2 and half.value is None
    with pytest.raises(ValueError, match=r"octaves \[16\] have no answer"):
        capacity(STARTS, [right[kinds < 3]], kinds[kinds < 3], clusters[kinds < 3], (0.0, 1.0))


def test_a_seed_is_a_draw_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models that differ widen the interval beyond what sequences do."""
    monkeypatch.setattr(module, "RESAMPLES", 300)
    one, kinds, clusters = answers(4.0, 1, 4000)
    other = np.repeat(np.random.default_rng(2).random(4000) < 1 - np.array(STARTS)[kinds[::3]] * 2**0.5 / 100, 3)
    alone = capacity(STARTS, [one, one], kinds, clusters, (0.0, 1.0))
    both = capacity(STARTS, [one, other], kinds, clusters, (0.0, 1.0))
    assert both.seeds == 2 and both.high / both.low > 1.2 * alone.high / alone.low


def test_the_interval_holds_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences, and not their answers, are independent: 95 % of the time, give or take."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    truth = 2.0 ** float(crossing(STARTS, 1 - np.array(STARTS) * np.sqrt(2) / 60))
    held = 0
    for seed in range(100):
        right, kinds, clusters = answers(6.0, seed, 600)
        found = capacity(STARTS, [right], kinds, clusters, (0.0, 1.0))
        held += (found.low is None or found.low <= truth) and (found.high is None or truth <= found.high)
    assert 88 <= held <= 100


def test_what_octaves_are() -> None:
    assert octaves(["pairs 2", "pairs 4", "pairs 8"]) == ("pairs", [2, 4, 8])
    assert octaves(["distance 1", "distance 4", "distance 8"]) == ("distance", [1, 4, 8])
    for kinds in (
        ["pairs 2", "pairs 4"], ["hops 1", "hops 2", "hops 4"], ["pairs 2", "pairs 3", "pairs 4"], ["pairs 0"] * 3,
        ["pairs 4", "pairs 2", "pairs 8"], ["pairs 2", "pairs 4", "distance 8"], ["all"], [], ["pairs 2", "x", "y"],
    ):  # fmt: skip
        assert octaves(kinds) is None, kinds


def test_words() -> None:
    assert (Capacity(12.34, 9.2, None).words, Capacity(12.34, 9.2, None).between) == ("12", "[9.2, …]")
    assert (Capacity(1234.5, 999.6, 2000).words, Capacity(1234.5, 999.6, 2000).between) == ("1,234", "[1,000, 2,000]")


def test_sight_is_what_a_model_would_reach_that_is_right_where_it_sees() -> None:
    def seen(*shares: float) -> Capacity | None:
        return sight([{"distance": 1 << i, "share": share} for i, share in enumerate(shares)])

    assert seen(1, 1, 0.8, 0).value == pytest.approx(2**2)
    assert seen(1, 1, 1, 1).words == ">=8" and seen(0, 0).words == "<1"
    assert seen() is None and sight([{"distance": 2, "share": 1.0}, {"distance": 1, "share": 1.0}]) is None
