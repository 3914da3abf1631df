"""Randomness of generated items: a batch at a time, each item from its own key alone.

Draw j of purpose p of item i is the finaliser of splitmix64 (Steele, Lea & Flood 2014, figure 15) of key_i + salt_p,j:
integer arithmetic that is the same for ever, on any machine and in any batch. `tasks/stream.py` is the same for
compiled generators.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
INDEX = 20  # low bits of a sort key that hold a place: orders of up to 2^20, ties at one of 2^44


def mixed(z: np.ndarray) -> np.ndarray:
    """64 random bits of each of z, uint64, which is overwritten."""
    z ^= z >> np.uint64(30)
    z *= FIRST
    z ^= z >> np.uint64(27)
    z *= SECOND
    z ^= z >> np.uint64(31)
    return z


@lru_cache(maxsize=256)
def salts(purpose: str, count: int) -> np.ndarray:
    """uint64 (count,), of which a shorter one is the beginning."""
    start = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    return mixed(np.arange(1, count + 1, dtype=np.uint64) * GOLDEN + np.uint64(start))


def keys(base: int, items: np.ndarray, attempt: int = 0) -> np.ndarray:
    """A key uint64 (n,) for each of items (n,); base: of seed and split; attempt: another draw of the same item."""
    start = mixed(np.array([base % 2**64], np.uint64)) + np.array([attempt], np.uint64) * FIRST
    return mixed(mixed(items.astype(np.uint64) * GOLDEN + start))


class Source:
    """What n items are drawn from. Every purpose, by name, is a stream of its own."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def bits(self, purpose: str, count: int) -> np.ndarray:
        """uint64 (n, count)."""
        return mixed(self.keys[:, None] + salts(purpose, count))

    def below(self, purpose: str, count: int, high: int | np.ndarray) -> np.ndarray:
        """Integers int64 (n, count) in [0, high), high up to 2^31. The bias, high / 2^32, is beneath any sample."""
        drawn = self.bits(purpose, count)
        drawn >>= np.uint64(32)
        drawn *= np.asarray(high, np.uint64)
        drawn >>= np.uint64(32)
        return drawn.view(np.int64)

    def happens(self, purpose: str, count: int, probability: float | np.ndarray) -> np.ndarray:
        """bool (n, count), each True with that probability, to 2^-53."""
        drawn = self.bits(purpose, count) >> np.uint64(11)
        return drawn < np.asarray(np.round(np.asarray(probability, float) * 2.0**53), np.uint64)

    def order(self, purpose: str, count: int) -> np.ndarray:
        """A permutation of 0..count-1 each, int64 (n, count)."""
        return ranked(self.bits(purpose, count))

    def places_within(self, purpose: str, count: int, limits: np.ndarray) -> np.ndarray:
        """`count` distinct places below a limit of each item's own, ascending; limits int (n,)."""
        most = int(limits.max())
        drawn = self.bits(purpose, most)
        drawn[np.arange(most) >= limits[:, None]] = np.uint64(2**64 - 1)
        return np.sort(ranked(drawn)[:, :count], axis=1)

    def some(self, purpose: str, count: int, of: int) -> np.ndarray:
        """`count` distinct ones of 0..of-1 in random order, int64 (n, count)."""
        return self.order(purpose, of)[:, :count]

    def places(self, purpose: str, count: int, of: int) -> np.ndarray:
        """The same, ascending."""
        return np.sort(self.some(purpose, count, of), axis=1)


def ranked(drawn: np.ndarray) -> np.ndarray:
    """Places 0..count-1 of drawn (n, count) from the least to the largest; overwrites it."""
    low = np.uint64((1 << INDEX) - 1)
    # The place in the low bits makes keys distinct, so that any sort gives the same.
    drawn &= ~low
    drawn |= np.arange(drawn.shape[1], dtype=np.uint64)
    drawn.sort(axis=1)
    drawn &= low
    return drawn.view(np.int64)
