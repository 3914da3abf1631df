"""Symmetric uniform grids, and four ways to choose where they end.

    x_q = clamp(round(x / s), -n, n) s,   n = 2^(bits - 1) - 1,   s = t / n

max          t is the largest |x|
percentile   t is where so many percent of |x| lie below
mse          t is the one of 100 shares of the largest |x| that leaves the least squared error
kl           t is the one of those bin ends whose clipped histogram P is least changed, in KL(P || Q), by being
             collapsed to n + 1 levels (Migacz 2017, 8-bit inference with TensorRT, GTC)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BINS, SHARES = 2048, 100
RULES = ("max", "percentile", "mse", "kl")


def top(bits: int) -> int:
    """The largest whole number of the grid."""
    return 2 ** (bits - 1) - 1


def onto(x: Tensor, end: Tensor | float, bits: int) -> Tensor:
    """x on the grid that ends at `end`, which broadcasts against it; where that is 0 all is 0."""
    scale = torch.as_tensor(end, dtype=x.dtype, device=x.device) / top(bits)
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return x.div(safe).round_().clamp_(-top(bits), top(bits)).mul_(scale)  # in place: training passes here at each call


def of_rows(x: Tensor, bits: int, rule: str, percentile: float) -> Tensor:
    """Where the grid of each row of x (R, N) ends: (R, 1). By kl, which asks for many numbers, as by max."""
    size = x.abs()
    largest = size.amax(1, keepdim=True)
    if rule == "percentile":
        rank = min(size.shape[1], max(1, int(np.ceil(percentile / 100 * size.shape[1]))))
        return size.kthvalue(rank, 1, keepdim=True).values
    if rule == "mse":
        errors = torch.stack([(onto(x, largest * i / SHARES, bits) - x).square().sum(1) for i in range(1, SHARES + 1)])
        return largest * (errors.argmin(0) + 1).to(x.dtype)[:, None] / SHARES
    return largest


def of_counts(counts: np.ndarray, largest: float, bits: int, rule: str, percentile: float) -> float:
    """Where the grid ends for numbers of which |x| has these counts (BINS,) in equal bins from 0 to `largest`."""
    counts, width = counts.astype(float), largest / len(counts)
    if rule == "max" or not counts.any():
        return largest
    if rule == "percentile":
        below = counts.cumsum()
        return width * (1 + int(np.searchsorted(below, percentile / 100 * below[-1])))
    if rule == "mse":
        centres = width * (np.arange(len(counts)) + 0.5)
        ends = largest * np.arange(1, SHARES + 1) / SHARES
        errors = [(counts * (np.minimum(np.round(centres / (e / top(bits))), top(bits)) * e / top(bits) - centres) ** 2)
                  .sum() for e in ends]  # fmt: skip
        return float(ends[int(np.argmin(errors))])
    return width * least_divergence(counts, top(bits) + 1)


def least_divergence(counts: np.ndarray, levels: int) -> int:
    """How many of the bins, from `levels` on, are kept by the rule `kl`; all where there are fewer."""
    best, kept = np.inf, len(counts)
    for bins in range(levels, len(counts) + 1):
        if (found := divergence(counts, bins, levels)) < best:
            best, kept = found, bins
    return kept


def divergence(counts: np.ndarray, bins: int, levels: int) -> float:
    """KL(P || Q) of the first `bins`; infinite where what is clipped falls on a bin that has nothing of its own."""
    kept = counts[:bins]
    p = kept.copy()
    p[-1] += counts[bins:].sum()
    begins = -(-np.arange(levels) * bins // levels)
    full = np.add.reduceat((kept > 0).astype(float), begins)
    even = np.divide(np.add.reduceat(kept, begins), full, out=np.zeros(levels), where=full > 0)
    q = np.where(kept > 0, np.repeat(even, np.diff(np.append(begins, bins))), 0.0)
    some = p > 0
    if not q.any() or (q[some] <= 0).any():
        return np.inf
    p, q = p[some] / p.sum(), q[some] / q.sum()
    return float((p * np.log(p / q)).sum())
