"""The Pareto front, against every pair compared with every other."""

from __future__ import annotations

import numpy as np
import pytest

from lra.marks.front import pareto


def brute(x: np.ndarray, y: np.ndarray) -> set[int]:
    beaten = set()
    for i in range(len(x)):
        for j in range(len(x)):
            at_least, better = x[j] >= x[i] and y[j] >= y[i], x[j] > x[i] or y[j] > y[i]
            if at_least and better:
                beaten.add(i)
    return set(range(len(x))) - beaten


@pytest.mark.parametrize("values", [2, 4, 10, 10**6])
def test_the_front_is_that_of_all_pairs(values: int) -> None:
    """Few values make ties in one number, in both, and points that are there twice."""
    draw = np.random.default_rng(values)
    for count in [0, 1, 2, 3, *draw.integers(4, 40, 60)]:
        x, y = draw.integers(values, size=(2, count)) / 7
        found = pareto(x, y)
        assert set(found.tolist()) == brute(x, y) and len(found) == len(set(found.tolist()))
        assert (np.diff(x[found]) >= 0).all() and (np.diff(y[found]) <= 0).all()
