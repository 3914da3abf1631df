"""The boards as CSV: one line for each cell, with all that is known of it, unrounded as far as it is sure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from lra import console
from lra.leaderboard.view import Board, Column, Line

FORMULA = ("=", "+", "-", "@")
HEAD = (
    "budget", "machine", "dtype", "kind", "model", "row", "column", "standard", "accuracy", "low", "high", "seeds",
    "failed_seeds", "items", "status", "reason", "skill", "skill_floor", "rank_best", "rank_worst",
    "seeds_above_chance", "parameters", "parameters_ratio", "examples_per_second", "step_peak_bytes", "relative_speed",
    "relative_memory", "length", "disturbed", "fingerprint", "run_ids", "contract", "blind",
)  # fmt: skip


def render(boards: Sequence[Board]) -> str:
    """Accuracies are fractions, sizes bytes; empty is "not known". Kinds: model, variant (a run with
    overrides), floor, and cost (a training step at `length`, relative to the Transformer's)."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEAD, restval="", lineterminator="\n")
    writer.writeheader()
    for board in boards:
        group = {"budget": board.budget, "machine": board.machine, "dtype": board.dtype}
        for line in board.lines:
            for column in board.columns:
                if column.key in line.marks:
                    writer.writerow(_plain(group | _cell(line, column)))
        for line in board.lines:
            for length, cost in sorted(line.costs.items()):
                about = {"kind": "cost", "model": line.name, "length": length, "status": cost.status}
                ratios = {"relative_speed": cost.speed, "relative_memory": cost.memory, "disturbed": cost.disturbed}
                writer.writerow(_plain(group | about | ratios))
    return out.getvalue()


def _cell(line: Line, column: Column) -> dict[str, Any]:
    mark = line.mark(column.key)
    best, worst = mark.rank or (None, None)
    same = ["accuracy", "low", "high", "seeds", "items", "status", "reason", "skill", "parameters", "parameters_ratio"]
    same += [
        "examples_per_second",
        "step_peak_bytes",
        "relative_speed",
        "relative_memory",
        "fingerprint",
        "contract",
        "blind",
    ]
    return {name: getattr(mark, name) for name in same} | {
        "kind": line.kind,
        "model": line.name,
        "row": column.key,
        "column": column.title,
        "standard": column.standard,
        "failed_seeds": mark.failed,
        "skill_floor": mark.floor,
        "rank_best": best,
        "rank_worst": worst,
        "seeds_above_chance": mark.above_chance[0] if mark.above_chance else None,
        "run_ids": " ".join(mark.run_ids),
    }


def escaped(text: str) -> str:
    """Text of a record as text: in one line, and no formula to a spreadsheet."""
    text = console.line(text)
    return f"'{text}" if text[:1] in FORMULA else text


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: _cell_of(v) for k, v in values.items()}


def _cell_of(value: Any) -> Any:
    """Numbers to six digits, which no platform computes otherwise; null empty; words for booleans."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    return escaped(value) if isinstance(value, str) else value
