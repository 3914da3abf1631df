"""Which of several are beaten by no other in all that counts."""

from __future__ import annotations

import numpy as np


def pareto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places (K,), by ascending x, of the points of x, y (N,) that no other one is at least as good as in both and
    better in one; more is better. Of equal points all. O(N log N)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    order = np.lexsort((-y, -x))  # the largest x first, of one x the largest y
    best, kept, at = -np.inf, [], (np.nan, np.nan)
    for i in order:
        if y[i] > best:
            best, at = y[i], (x[i], y[i])
            kept.append(i)
        elif (x[i], y[i]) == at:
            kept.append(i)
    return np.array(kept[::-1], int)
