"""The grids of a quantiser against slow, obvious twins in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lra.treatments import ranges


def slow_onto(x: float, end: float, bits: int) -> float:
    """The nearest of the 2n + 1 values of the grid, of two the even one."""
    n = 2 ** (bits - 1) - 1
    grid = [k * end / n for k in range(-n, n + 1)]
    best = min(abs(x - g) for g in grid)
    near = [k - n for k, g in enumerate(grid) if abs(abs(x - g) - best) < 1e-12]
    return next((k for k in near if k % 2 == 0), near[0]) * end / n


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_number_goes_to_the_nearest_of_the_grid(bits: int) -> None:
    draw = np.random.default_rng(bits)
    x, end = draw.normal(0, 1, 200), 1.3
    found = ranges.onto(torch.tensor(x), end, bits)
    assert np.allclose(found, [slow_onto(v, end, bits) for v in x], atol=1e-12)
    assert ranges.onto(torch.arange(3.0), 0.0, bits).tolist() == [0, 0, 0]


def test_twenty_four_bits_are_all_that_a_float_has() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert (ranges.onto(x, x.abs().max(), 24) - x).abs().max() <= x.abs().max() * 2**-22


def slow_divergence(counts: list[float], bins: int, levels: int) -> float:
    """KL(P || Q) by the words of the rule: clip, collapse, spread over what is not empty."""
    p = [*counts[: bins - 1], sum(counts[bins - 1 :])]
    q = [0.0] * bins
    for level in range(levels):
        mine = [b for b in range(bins) if b * levels // bins == level]
        full = [b for b in mine if counts[b] > 0]
        for b in full:
            q[b] = sum(counts[i] for i in mine) / len(full)
    if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)) or not sum(q):
        return math.inf
    p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def test_the_threshold_of_least_divergence() -> None:
    draw = np.random.default_rng(0)
    for seed in range(2):
        counts = np.floor(draw.exponential(1, 90) * 40 * np.exp(-np.arange(90) / (6 + 5 * seed)))
        counts[-1] = 3  # one outlier, which a grid to the largest would spend itself on
        levels = 8
        slow = [slow_divergence(counts.tolist(), bins, levels) for bins in range(levels, 91)]
        fast = [ranges.divergence(counts, bins, levels) for bins in range(levels, 91)]
        assert np.allclose(slow, fast, atol=1e-12)
        assert ranges.least_divergence(counts, levels) == levels + int(np.argmin(slow)) < 90


def test_rules_by_their_words() -> None:
    x = torch.tensor(np.random.default_rng(1).normal(0, 1, (2, 200)))
    for row, end in zip(x, ranges.of_rows(x, 4, "percentile", 99.0), strict=True):
        assert (row.abs() <= end).sum() == 198
    for row, end in zip(x, ranges.of_rows(x, 3, "mse", 0), strict=True):
        tried = [float(row.abs().max()) * i / 100 for i in range(1, 101)]
        errors = [sum((slow_onto(float(v), e, 3) - float(v)) ** 2 for v in row[:]) for e in tried]
        assert math.isclose(float(end), tried[int(np.argmin(errors))])
    counts = np.zeros(ranges.BINS)
    counts[:100], counts[-1] = 10, 1
    assert ranges.of_counts(counts, 2048.0, 8, "max", 0) == 2048
    assert ranges.of_counts(counts, 2048.0, 8, "percentile", 49.9) == 50
    counts = np.floor(1000 * np.exp(-np.arange(ranges.BINS) / 40))
    counts[-1] = 1
    assert ranges.of_counts(counts, 2048.0, 8, "kl", 0) < 300 and ranges.of_counts(counts, 2048.0, 3, "mse", 0) < 300
