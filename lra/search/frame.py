"""Measured points as a table: times at one pace, and what they are predicted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lra.search.space import Shape

COLUMNS = (
    "key", "model", "depth", "dim", "heads", "length", "flops", "written", "ops", "stack_parameters", "peak_bytes",
    "resident_bytes",
)  # fmt: skip


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a point that was measured and counted; of one that was measured twice the newer. `latency`: the median
    of its steps in seconds, each at the median of all paces, so that a machine that was slow for an hour is not a slow
    shape. `memory`: bytes of weights and batch, and of what a step holds above them at its peak."""
    good = {r["key"]: r for r in rows if r["status"] == "ok" and all(r.get(c) is not None for c in COLUMNS)}
    table = pd.DataFrame([{c: r[c] for c in COLUMNS} for r in good.values()], columns=list(COLUMNS))
    paced = [p for r in good.values() for p in r["paces"] or ()]
    usual = float(np.median(paced)) if paced else 1.0
    table["latency"] = [_even(r, usual) for r in good.values()]
    table["memory"] = table.peak_bytes + table.resident_bytes
    return table


def _even(row: Mapping[str, Any], usual: float) -> float:
    seconds = np.asarray(row["seconds"], float)
    return float(np.median(seconds if row["paces"] is None else seconds * np.asarray(row["paces"], float) / usual))


def shape(row: Any) -> Shape:
    return Shape(row.model, int(row.depth), int(row.dim), int(row.heads))
