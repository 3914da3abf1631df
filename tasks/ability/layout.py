"""Pieces of several symbols, laid one after the other into rows of tokens."""

from __future__ import annotations

import numpy as np

from lra.tasks.ability.draw import Source

# Pieces are int64 (n, pieces, width): symbols from 0, and -1 behind the end of a shorter one.


def widths(pieces: np.ndarray) -> np.ndarray:
    """(n, pieces)."""
    return (pieces >= 0).sum(2)


def laid(wide: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Where each piece starts if they stand without a gap, in order of their slots; wide, slots (n, pieces)."""
    order = np.argsort(slots, axis=1)
    ends = np.cumsum(np.take_along_axis(wide, order, 1), axis=1)
    return np.take_along_axis(ends, slots, 1) - wide


def put(into: np.ndarray, starts: np.ndarray, pieces: np.ndarray, first: int) -> None:
    """Write pieces into rows (n, L) from their starts on (n, pieces); symbol 0 is token `first`."""
    rows, which, offsets = np.nonzero(pieces >= 0)
    into[rows, starts[rows, which] + offsets] = first + pieces[rows, which, offsets]


def pick(pieces: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Of each row some pieces, by index (n, m)."""
    return np.take_along_axis(pieces, which[:, :, None], 1)


def strings(source: Source, purpose: str, count: int, symbols: int, longest: int) -> np.ndarray:
    """Pieces of 1 to `longest` symbols, all lengths alike, no symbol twice in one: (n, count, longest)."""
    out = np.empty((len(source), count, longest), np.int64)
    for i in range(longest):
        drawn = source.below(f"{purpose} {i}", count, symbols - i)
        for other in np.moveaxis(np.sort(out[:, :, :i], axis=2), 2, 0):
            drawn += drawn >= other  # over the symbols that are taken, from the least on
        out[:, :, i] = drawn
    long = 1 + source.below(f"{purpose} length", count, longest)
    out[np.arange(longest) >= long[:, :, None]] = -1
    return out


def distinct(source: Source, purpose: str, count: int, symbols: int, longest: int) -> np.ndarray:
    """The first `count` different ones of such pieces. How many are drawn until then changes none of them."""
    tries = 2 * count + 16
    while True:
        drawn = strings(source, purpose, tries, symbols, longest)
        code = ((drawn + 1) * (symbols + 1) ** np.arange(longest)).sum(2)
        order = np.argsort(code, axis=1, kind="stable")
        code = np.take_along_axis(code, order, 1)
        fresh = np.empty(code.shape, bool)
        np.put_along_axis(fresh, order, np.diff(code, axis=1, prepend=-1) != 0, 1)
        if (fresh.sum(1) >= count).all():
            return pick(drawn, np.argsort(~fresh, axis=1, kind="stable")[:, :count])
        tries *= 2
