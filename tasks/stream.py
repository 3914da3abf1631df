"""A random stream for compiled generators that never changes.

splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 15)
in numba. NumPy promises stable streams for its bit generators only, not for what is drawn from
them, and a benchmark's data must be the same in ten years.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """numba's `njit`, its machine code kept for the next process where there is a place for it: neither a
    read-only checkout nor a home that cannot be written is an error."""

    def decorate(function: Callable) -> Callable:
        try:
            return njit(cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba finds no folder that it can write
            return njit(**options)(function)

    return decorate


@compiled(inline="always")
def next_u64(state: np.ndarray) -> np.uint64:
    """Advance state (uint64, shape (1,)) and return 64 random bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(inline="always")
def uniform(state: np.ndarray) -> float:
    """A float64 in [0, 1) with 53 random bits."""
    return (next_u64(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled(inline="always")
def below(state: np.ndarray, n: int) -> int:
    """An integer in [0, n). The bias, n / 2^32, is beneath any sample that can be drawn."""
    return np.int64(((next_u64(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


def seeded(*key: int) -> np.ndarray:
    """An independent state for a key such as (seed, shard): shape (1,), uint64."""
    return np.random.SeedSequence(key).generate_state(1, np.uint64)
