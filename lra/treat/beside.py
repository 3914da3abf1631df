"""The answers of two models on the same items."""

from __future__ import annotations

from typing import Any

import numpy as np

from lra.marks import stats
from lra.record.answers import by_sequence


def beside(child: Any, parent: Any) -> dict[str, Any]:
    """What a derived record keeps of its answers: lra.treat. child, parent: a lra.train.evaluate.Score each."""
    mine, theirs = (s.predictions == s.labels for s in (child, parent))
    value, low, high = stats.beside(*units(mine, theirs, child.clusters))
    losses, before = units(child.losses, parent.losses, child.clusters)
    change, least, most = stats.change(losses - before)
    return {
        "flipped": float((child.predictions != parent.predictions).mean()),
        "broken": int((theirs & ~mine).sum()),
        "mended": int((mine & ~theirs).sum()),
        "difference": {"value": value, "low": low, "high": high, "p": p(mine, theirs, child.clusters)},
        "loss": {"value": change, "low": least, "high": most},
    }


def units(a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that are independent of one another: of each answer, or of each sequence of them."""
    if clusters is None:
        return a, b
    number = np.unique(clusters, return_inverse=True)[1]
    first, second = by_sequence(np.stack((a, b)).astype(float), number)
    return first, second


def p(a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None) -> float:
    """Of McNemar's mid-p test; where answers come by sequence, of the paired difference."""
    if (a == b).all():
        return 1.0
    first, second = units(a, b, clusters)
    return float(stats.compare(first[None], second[None]))
