"""Dropout as models/parts/chance.py says it is, number by number in unsigned whole numbers; and its noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STRIDE = 0x9E3779B97F4A7C15


def mixed(z: int) -> int:
    """SplitMix64's finaliser (Steele et al. 2014, figure 15)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def under(key: int, place: int) -> int:
    return mixed((key + (place + 1) * STRIDE) % 2**64)


def drawn() -> int:
    """The key that a module draws from torch's generator when nobody told it of a step."""
    return int(torch.randint(2**62, ()))


def told(seed: int, step: int, stream: int, example: int) -> int:
    """The key that `tell` gives to an example in the stream of that number, which has one row an example."""
    return under(under(under(under(mixed(seed), step), stream), example), 0)


def kept(rows: list[int], columns: list[int], rate: float) -> np.ndarray:
    """1 where z + 2^31 mod 2^32 is at least the rate, z the product of a row's odd factor and a column's."""
    r = np.array([key >> 32 | 1 for key in rows], dtype=object)
    c = np.array([key >> 32 for key in columns], dtype=object)
    z = (np.multiply.outer(r, c) + 2**31) % 2**32
    return (z >= round(rate * 2**32)).astype(float)


def scaled(ones: np.ndarray, rate: float) -> Tensor:
    return torch.tensor(ones, dtype=torch.float64) / (1 - round(rate * 2**32) / 2**32)


def dropped(x: Tensor, rate: float) -> Tensor:
    """x (B, ..., D) after a `Dropout` that nobody told, with the next of torch's numbers."""
    key, ones = drawn(), np.zeros(x.shape)
    for b in range(len(x)):
        row, column = (under(under(key, b), i) for i in (0, 1))
        columns = [under(column, d) for d in range(x.shape[-1])]
        for place in np.ndindex(*x.shape[1:-1]):
            at = row
            for i in place:
                at = under(at, i)
            ones[(b, *place)] = kept([at], columns, rate)[0]
    return x * scaled(ones, rate)


def dropped_weights(weights: Tensor, rate: float, keys: list[int] | None = None) -> Tensor:
    """Attention weights (B, H, queries, keys) after the dropout; `keys` of the examples, else drawn."""
    batch, heads, queries, seen = weights.shape
    if keys is None:
        base = drawn()
        keys = [under(base, b) for b in range(batch)]
    ones = np.zeros(weights.shape)
    for b, h in np.ndindex(batch, heads):
        row, column = (under(under(keys[b], h), i) for i in (0, 1))
        ones[b, h] = kept([under(row, i) for i in range(queries)], [under(column, j) for j in range(seen)], rate)
    return weights * scaled(ones, rate)


def uniform(shape: tuple[int, ...]) -> Tensor:
    """(B, ...) float64 in (0, 1), of a stream that nobody told."""
    key, out = drawn(), torch.zeros(shape, dtype=torch.float64)
    for place in np.ndindex(*shape):
        at = key
        for i in place:
            at = under(at, i)
        out[place] = ((at >> 12) + 0.5) / 2**52
    return out
