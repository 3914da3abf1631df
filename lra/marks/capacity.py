"""How many, how far: the difficulty up to which a model that was trained over many is still good.

The answers of an exam are reported by octave of their difficulty ("pairs 8": 8 to 15). The capacity is where the score
falls to LEVEL on the way up, interpolated in log2 between the middles of octaves. One model is one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
RESAMPLES = 1000


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

    @property
    def words(self) -> str:
        if self.beyond is not None:
            return f">={self.beyond}"
        return f"<{self.below}" if self.below is not None else f"{self.value:.3g}"


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
    totals = []
    for _ in range(RESAMPLES):
        models = draw.integers(len(right), size=len(right))
        weights = draw.multinomial(count, np.full(count, 1 / count), size=len(right)).astype(float)
        totals.append(
            (np.einsum("sn,snk->k", weights, hits[models]), np.einsum("sn,nk->k", weights, asked.astype(float)))
        )
    spread = np.sort(at(np.stack([h for h, _ in totals]), np.stack([n for _, n in totals])))
    low, high = spread[int(0.025 * RESAMPLES)], spread[int(np.ceil(0.975 * RESAMPLES)) - 1]
    return Capacity(
        *(float(2**x) if np.isfinite(x) else None for x in (found, low, high)),
        beyond=starts[-1] if found == np.inf else None,
        below=starts[0] if found == -np.inf else None,
        seeds=len(right),
    )
