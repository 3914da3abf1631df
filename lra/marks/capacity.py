"""How many, how far: the difficulty up to which a model that was trained over many is still good.

The answers of an exam are reported by octave of their difficulty ("pairs 8": 8 to 15). The capacity is where the score
falls to LEVEL on the way up, interpolated in log2 between the middles of octaves. One model is one seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

LEVEL = 0.9
RESAMPLES = 1000
AT_ONCE = 50  # of them


# What kinds of answers are called that are reported by octave, and what is read out of them.
NAMES = {"pairs": "capacity", "distance": "reach", "tokens": "length"}
FEWEST = 3  # octaves between which a fall has a place
OCTAVE = re.compile(r"(\w+) (\d{1,9})")


def octaves(kinds: Iterable[str]) -> tuple[str, list[int]] | None:
    """The word and the starts of kinds that are octaves in ascending order ("pairs 2", "pairs 4", "pairs 8"); null if
    they are anything else, or fewer than FEWEST."""
    found = [OCTAVE.fullmatch(kind) for kind in kinds]
    if len(found) < FEWEST or not all(found) or found[0][1] not in NAMES or len({f[1] for f in found}) > 1:
        return None
    starts = [int(f[2]) for f in found]
    rising = all(a < b for a, b in pairwise(starts))
    return (found[0][1], starts) if rising and all(n > 0 and not n & (n - 1) for n in starts) else None


@dataclass(frozen=True)
class Capacity:
    """value: null if the score never crosses LEVEL; then `beyond` is the start of the hardest octave, or `below` that
    of the easiest, whichever side it stays on. low, high: 95 % interval over seeds and sequences; null where it has no
    end within what was asked."""

    value: float | None
    low: float | None
    high: float | None
    beyond: int | None = None
    below: int | None = None
    seeds: int = 1
    of: str = "pairs"  # what is counted, of NAMES

    @property
    def at(self) -> float:
        """Where it stands among others: the end of the last octave if it is beyond it, the start of the first if below
        that."""
        if self.value is not None:
            return self.value
        return 2.0 * self.beyond if self.beyond is not None else float(self.below)

    @property
    def words(self) -> str:
        if self.beyond is not None:
            return f">={self.beyond}"
        return f"<{self.below}" if self.below is not None else _number(self.value)

    @property
    def between(self) -> str:
        """ "[9, 15]"; an end that is not within what was asked is "…"."""
        low, high = ("…" if end is None else _number(end) for end in (self.low, self.high))
        return f"[{low}, {high}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def sight(reach: Sequence[Mapping[str, Any]]) -> Capacity | None:
    """How far a model would be good that is right wherever its Jacobian lets it be: of the shares by octave of a
    record's `contract.reach`, the crossing of LEVEL. Null without octaves in ascending order."""
    starts = [each["distance"] for each in reach]
    if not starts or any(a >= b for a, b in pairwise(starts)):
        return None
    found = float(crossing(starts, np.array([each["share"] for each in reach])))
    value = float(2**found) if np.isfinite(found) else None
    ends = {"beyond": starts[-1] if found == np.inf else None, "below": starts[0] if found == -np.inf else None}
    return Capacity(value, None, None, **ends, of="distance")


def crossing(starts: Sequence[int], scores: np.ndarray) -> np.ndarray:
    """log2 of the difficulty where scores (..., K) of octaves first fall to LEVEL; inf if never, -inf if at once."""
    middles = np.log2(np.asarray(starts, float)) + 0.5
    low = scores < LEVEL
    first = np.where(low.any(-1), low.argmax(-1), len(middles))
    out = np.full(scores.shape[:-1], np.inf)
    out[first == 0] = -np.inf
    inside = (first > 0) & (first < len(middles))
    at = first[inside]
    above, under = (np.take_along_axis(scores[inside], i[..., None], -1)[..., 0] for i in (at - 1, at))
    share = (above - LEVEL) / (above - under)
    out[inside] = middles[at - 1] + share * (middles[at] - middles[at - 1])
    return out


def capacity(
    starts: Sequence[int],
    right: Sequence[np.ndarray],
    kinds: np.ndarray,
    clusters: np.ndarray,
    levels: tuple[float, float],
    seed: int = 0,
    of: str = "pairs",
) -> Capacity:
    """From the answers of models of several seeds to the same test items.

    starts (K,): of the octaves, ascending. right: of each model bool (N,). kinds (N,): which octave an answer is of;
    clusters (N,): its sequence. levels: floor and ceiling of accuracy. Sequences are resampled within each resampled
    model. Raises ValueError if an octave has no answer.
    """
    rows = np.unique(clusters, return_inverse=True)[1]
    count = int(rows.max()) + 1
    places = rows * len(starts) + kinds
    size = count * len(starts)
    asked = np.bincount(places, minlength=size).reshape(count, -1)
    if not asked.sum(0).all():
        raise ValueError(f"octaves {[s for s, n in zip(starts, asked.sum(0), strict=True) if not n]} have no answer")
    hits = np.stack([np.bincount(places, weights=r, minlength=size).reshape(count, -1) for r in right])
    floor, ceiling = levels

    def at(hits: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """hits, asked (..., K)."""
        share = np.divide(hits, asked, out=np.full(hits.shape, np.nan), where=asked > 0)
        return crossing(starts, (share - floor) / (ceiling - floor))

    found = float(at(hits.sum((0, 1)), len(right) * asked.sum(0)))
    draw = np.random.Generator(np.random.PCG64(seed))
    spread = []
    for begin in range(0, RESAMPLES, AT_ONCE):
        size = min(AT_ONCE, RESAMPLES - begin), len(right)
        cell = np.arange(size[0])[:, None] * len(right) + draw.integers(len(right), size=size)  # which model, each time
        drawn = cell[..., None] * count + draw.integers(count, size=(*size, count))
        weights = np.bincount(drawn.ravel(), minlength=size[0] * size[1] * count).reshape(*size, count).astype(float)
        spread.append(at(np.tensordot(weights, hits, 2), weights.sum(1) @ asked))
    spread = np.sort(np.concatenate(spread))
    low, high = spread[int(0.025 * RESAMPLES)], spread[int(np.ceil(0.975 * RESAMPLES)) - 1]
    return Capacity(
        *(float(2**x) if np.isfinite(x) else None for x in (found, low, high)),
        beyond=starts[-1] if found == np.inf else None,
        below=starts[0] if found == -np.inf else None,
        seeds=len(right),
        of=of,
    )
