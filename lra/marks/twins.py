"""Length twins: trained at one length, tested at others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Twin:
    """The trained models of a cell on its exam at one length. trained: at this one. score: mean s over seeds; null
    where there is none, and then `refused` says why, or the exam there has no score. low, high: range over seeds."""

    length: int
    trained: bool
    score: float | None
    low: float | None
    high: float | None
    refused: str | None = None


def twins(ok: Sequence[Any]) -> tuple[Twin, ...]:
    """Of runs with a score: at the length that was trained at and all others that any seed was tested at, ascending;
    none without others."""
    found: dict[tuple[int, bool], list[tuple[float | None, str | None]]] = {}
    for run in (run for run in ok if run.lengths):
        for twin in run.lengths:
            found.setdefault((twin["length"], False), []).append((twin["test"], twin["refused"]))
        if trained := run.lengths[0]["trained"]:
            found.setdefault((trained, True), []).append((run.score, None))
    return tuple(Twin(*key, *_over(own)) for key, own in sorted(found.items()))


def _over(seeds: Sequence[tuple[float | None, str | None]]) -> tuple[Any, ...]:
    """Mean and range of the scores that there are; else why there is none, if anything says it."""
    scores = [score for score, _ in seeds if score is not None]
    if not scores:
        return None, None, None, next((why for _, why in seeds if why), None)
    return float(np.mean(scores)), min(scores), max(scores), None
