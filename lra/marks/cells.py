"""From the rows of runs to one row a model and exam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lra.marks import stats
from lra.marks.runs import CELL, GROUP, REFERENCE, by_cell, local_floors
from lra.marks.skill import skill
from lra.record.answers import Answers

FIELDS = (
    "task", "fingerprint", "variant", "accuracy", "low", "high", "items", "seeds", "failed", "status", "reason",
    "skill", "floor", "parameters", "active_parameters", "state_floats", "steps", "examples_per_second",
    "step_peak_bytes", "train_flops", "run_ids", "files", "answers", "exam", "edited", "contract", "blind", "departs",
    "stale", "uses_2d", "core_seconds", "pretraining",
    "pretraining_core_seconds",
)  # fmt: skip


def cells(table: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """One row for each group, task row and model, from the rows of runs.

    accuracy            mean over `seeds` runs that ended ok; `failed` others did not (status, reason)
    low, high           its 95 % interval (lra.marks.stats.interval; without stored answers `wider`)
    skill, floor        above the best local floor on record for the same data, and which that is
    relative_*, parameters_ratio   to the Transformer's on the same task, budget, machine, precision
    run_ids, files, answers        of the runs that ended ok, by seed; of all where none did
    edited              those of the files that were changed after they were written
    contract, blind     what is broken of the contract; the share of positions that cannot move an answer
    stale               whether the numbers of the model or the exam have changed since
    departs             what the model's own file sets otherwise than the exam's sizes
    uses_2d             whether the model knows the rows and columns of images
    pretraining         what it was, null of a model that was trained from scratch; its core-seconds are not among
                        `core_seconds`, those of training

    A run with overrides is a row of its own, named with them (`variant`). What exams of abilities say is elsewhere
    (lra.marks.abilities).
    """
    grouped = by_cell(table[~table.ability.astype(bool)])
    best = local_floors(table)
    rows = [dict(zip(CELL, key, strict=True)) | _cell(own, best, answers) for key, own in grouped.items()]
    out = pd.DataFrame(rows, columns=[*CELL, *FIELDS]).astype({"accuracy": float, "seeds": int})
    base = out[out.model == REFERENCE].set_index([*GROUP, "row"])
    where = pd.MultiIndex.from_frame(out[[*GROUP, "row"]])
    for column, name in (
        ("examples_per_second", "relative_speed"),
        ("step_peak_bytes", "relative_memory"),
        ("parameters", "parameters_ratio"),
    ):
        out[name] = out[column].to_numpy(float) / base[column].reindex(where).to_numpy(float)
    return out


def _cell(runs: list[Any], floors: dict[tuple[str, str], tuple[str, float]], kept_answers: Answers) -> dict[str, Any]:
    """FIELDS of one cell from its runs, one a seed."""
    ok, bad = [r for r in runs if r.status == "ok"], [r for r in runs if r.status != "ok"]
    scored = [r for r in ok if pd.notna(r.accuracy)]
    kept, last = ok or runs, runs[-1]
    answers, items = tuple(r.answers for r in scored), max((r.items for r in scored), default=None)
    mean, low, high = (float("nan"),) * 3
    floor = floors.get((last.row, last.fingerprint), (None, None))
    if scored:
        mean = float(np.mean([r.accuracy for r in scored]))
        known = kept_answers.right(answers)
        if known is not None:
            low, high = map(float, stats.interval(known))
        elif pd.notna(items):
            low, high = stats.wider([r.accuracy for r in scored], items)
    return {
        "task": last.task,
        "fingerprint": last.fingerprint,
        "variant": last.variant,
        "accuracy": mean,
        "low": low,
        "high": high,
        "items": items,
        "seeds": len(scored),
        "failed": len(bad),
        "status": "ok" if ok else last.status,
        "reason": bad[-1].reason if bad else None,
        "skill": skill(mean, floor[1]) if scored else None,
        "floor": floor[0] if scored else None,
        "parameters": kept[-1].parameters,
        "active_parameters": kept[-1].active_parameters,
        "state_floats": kept[-1].state_floats,
        "steps": kept[-1].steps,
        "examples_per_second": _over(np.median, [r.train_examples_per_second for r in runs]),
        "step_peak_bytes": _over(max, [r.step_peak_bytes for r in runs]),
        "train_flops": _over(np.median, [r.train_flops for r in runs]),
        "run_ids": tuple(r.run_id for r in kept),
        "files": tuple(r.file for r in kept),
        "answers": answers,
        "exam": last.exam,
        "edited": tuple(r.file for r in kept if r.edited),
        "contract": next((r.contract for r in kept if isinstance(r.contract, str)), None),
        "blind": _over(max, [r.blind for r in kept]),
        "departs": last.departs,
        "stale": last.stale if isinstance(last.stale, str) else None,
        "uses_2d": bool(last.uses_2d),
        "core_seconds": _over(np.median, [r.training_core_seconds for r in kept]),
        "pretraining": last.pretraining if isinstance(last.pretraining, str) else None,
        "pretraining_core_seconds": _over(np.median, [r.pretraining_core_seconds for r in kept]),
    }


def _over(function: Callable[[list[float]], float], values: list[float | None]) -> float:
    """Of what was measured; not a number if nothing was."""
    known = [v for v in values if pd.notna(v)]
    return float(function(known)) if known else float("nan")
