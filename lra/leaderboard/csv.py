"""The boards as CSV: one line for each cell, with all that is known of it, unrounded as far as it is sure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from lra import console
from lra.leaderboard import abilities, race
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import Board, Column, Line
from lra.leaderboard.chosen import COMMAND

FORMULA = ("=", "+", "-", "@")
HEAD = (
    "budget", "machine", "dtype", "kind", "model", "row", "column", "standard", "accuracy", "low", "high", "seeds",
    "failed_seeds", "items", "status", "reason", "skill", "skill_floor", "rank_best", "rank_worst",
    "seeds_above_chance", "parameters", "parameters_ratio", "examples_per_second", "step_peak_bytes", "relative_speed",
    "relative_memory", "length", "disturbed", "fingerprint", "run_ids", "contract", "blind", "asks", "learnt_seeds",
    "score", "score_least", "score_most", "score_low", "score_high", "floor", "ceiling", "sequences",
    "sequences_limit", "core_seconds", "rate_low", "rate_high", "rates_below", "rates_above", "kinds", "stale",
    "state_floats", "capacity_of", "capacity", "capacity_low", "capacity_high", "sight", "lengths", "minutes",
    "minutes_of", "minutes_to_floor", "active_parameters", "timed",
)  # fmt: skip


def render(boards: Sequence[Board], able: Sequence[Abilities] = (), command: str = COMMAND) -> str:
    """Accuracies are fractions, sizes bytes; empty is "not known". machine: of the runs, several joined by "and";
    `examples_per_second`, `step_peak_bytes`, what is relative and core-seconds of training are of `timed` alone. Kinds:
    model, variant (a run with overrides), pixels (a model that knows the rows and columns of images), floor, pretrained
    (core-seconds of training; those of pretraining in a line of kind pretraining), cost (a training step at `length`,
    relative to the Transformer's), and ability (of seeds `learnt_seeds` have learnt the exam, half of them within
    `sequences`, ">160000" where they have not; rates_below and rates_above say why an end of the learning rates that
    learn is open; core_seconds are of `machine`; state_floats are what the mixers keep of the tokens, all layers
    together; capacity of `capacity_of`, "pairs" or "distance", is where s falls on the way to more difficult answers,
    ">=16" where it never does, and sight the same by the model's Jacobian; lengths are s at other lengths). Of a race:
    minutes of a core or of a device, and those until the best local floor was reached on valid, ">20" where it was
    not. Of a choice the last column is the command that makes it.
    """
    out = io.StringIO()
    chosen = command != COMMAND
    writer = csv.DictWriter(out, [*HEAD, *["command"] * chosen], restval="", lineterminator="\n")
    writer.writeheader()
    made_by = {"command": command} if chosen else {}
    for board in boards:
        group = {"budget": board.budget, "dtype": board.dtype} | made_by
        for line in board.lines:
            for column in board.columns:
                if column.key in line.marks:
                    writer.writerow(_plain(group | _cell(line, column, board.timed) | _minutes(board, line, column)))
        for line, _ in board.pretrained:
            for column in (c for c in board.columns if c.key in line.marks):
                mark = line.marks[column.key]
                spent = {"core_seconds": mark.core_seconds}
                writer.writerow(_plain(group | _cell(line, column, board.timed) | spent))
                about = {"kind": "pretraining", "model": line.name, "row": column.key, "column": column.title}
                about |= {"machine": board.timed or None, "core_seconds": mark.pretraining_core_seconds}
                writer.writerow(_plain(group | about))
        for line in board.lines:
            for length, cost in sorted(line.costs.items()):
                about = {"machine": board.measured_on, "kind": "cost", "model": line.name}
                about |= {"length": length, "status": cost.status}
                ratios = {"relative_speed": cost.speed, "relative_memory": cost.memory, "disturbed": cost.disturbed}
                writer.writerow(_plain(group | about | ratios))
    for board in able:
        for model in board.models:
            for column in board.columns:
                if (cell := board.cells.get((model, column.key))) is not None:
                    group = {"budget": board.budget, "dtype": board.dtype} | made_by
                    writer.writerow(_plain(group | _ability(cell, column)))
    return out.getvalue()


def _cell(line: Line, column: Column, timed: str) -> dict[str, Any]:
    mark = line.mark(column.key)
    best, worst = mark.rank or (None, None)
    same = ["accuracy", "low", "high", "seeds", "items", "status", "reason", "skill", "parameters", "parameters_ratio"]
    same += [
        "active_parameters",
        "examples_per_second",
        "step_peak_bytes",
        "relative_speed",
        "relative_memory",
        "fingerprint",
        "contract",
        "blind",
    ]
    return {name: getattr(mark, name) for name in same} | {
        "machine": " and ".join(mark.machines) or None,
        "timed": timed or None,
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


def _minutes(board: Board, line: Line, column: Column) -> dict[str, Any]:
    """Of a race; ">20" where the floor was not reached."""
    if board.race is None or (cell := board.race.cells.get((line.name, column.key))) is None:
        return {}
    reached = None if cell.to_floor is None else race.to_floor(board.race, cell)
    return {"minutes": board.race.asked, "minutes_of": board.race.of, "minutes_to_floor": reached}


def _ability(cell: Any, column: abilities.Column) -> dict[str, Any]:
    same = ["machine", "model", "row", "accuracy", "seeds", "items", "status", "reason", "score", "floor", "ceiling"]
    same += [
        "core_seconds",
        "parameters",
        "active_parameters",
        "state_floats",
        "fingerprint",
        "contract",
        "blind",
        "stale",
    ]
    values = {name: getattr(cell, name) for name in same}
    never, rates = cell.sequences == float("inf"), cell.rates
    if rates is not None:
        values |= {"rate_low": rates.low, "rate_high": rates.high, "rates_below": rates.below}
        values["rates_above"] = rates.above
    if (found := cell.capacity) is not None:
        number = found.words if found.value is None else found.value
        values |= {"capacity_of": found.of, "capacity": number, "capacity_low": found.low, "capacity_high": found.high}
    if (seen := cell.sight) is not None:
        values["sight"] = seen.words if seen.value is None else seen.value
    scored = (f"{twin.length} {twin.score:.4f}" for twin in cell.twins if twin.score is not None)
    return values | {
        "lengths": "; ".join(scored),
        "kind": "ability",
        "column": column.title,
        "asks": column.asks,
        "failed_seeds": cell.failed,
        "learnt_seeds": cell.learnt,
        "low": cell.accuracy_low,
        "high": cell.accuracy_high,
        "score_least": cell.least,
        "score_most": cell.most,
        "score_low": cell.low,
        "score_high": cell.high,
        "sequences_limit": cell.limit,
        "sequences": f">{cell.limit:.0f}" if never else cell.sequences,
        "core_seconds": None if cell.core_seconds == float("inf") else cell.core_seconds,
        "kinds": "; ".join(f"{name} {accuracy:.4f}" for name, accuracy in cell.kinds.items()),
        "run_ids": " ".join(cell.run_ids),
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
