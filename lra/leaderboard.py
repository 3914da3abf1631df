"""From the records to one leaderboard for each budget, machine and precision.

    python -m lra.leaderboard [results_dir=results]            the table, and leaderboard.{md,csv,tex,html} there
    python -m lra.leaderboard [results_dir=results] --check    is what is published there what the records give?

Reads records only: neither torch nor the data are needed. How sure the numbers are: lra.stats.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra import record
from lra.errors import UserError, nearest
from lra.skill import skill

REFERENCE = "transformer"
GROUP = ["budget", "machine", "dtype"]
CELL = [*GROUP, "row", "model"]
ORDER = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
CHECK = "--check"
# Columns of `load` and of a cell.
LOADED = (
    "path", "file", "answers", "run_id", "kind", "status", "reason", "task", "row", "model", "variant", "budget",
    "seed", "config_hash", "fingerprint", "machine", "device", "threads", "dtype", "accuracy", "items", "local",
    "steps", "parameters", "train_examples_per_second", "inference_examples_per_second", "step_peak_bytes", "commit",
)  # fmt: skip
FIELDS = (
    "task", "fingerprint", "variant", "accuracy", "low", "high", "items", "seeds", "failed", "status", "reason",
    "skill", "floor", "parameters", "steps", "examples_per_second", "step_peak_bytes", "run_ids", "files", "answers",
)  # fmt: skip


def load(results: str | Path) -> pd.DataFrame:
    """One row a record: its flat fields, and of its costs those that tables show.

    path: of the record; file: the same below `results`; answers: of the stored predictions, null
    without. Raises UserError naming a file that is not a record.
    """
    rows = []
    try:
        for path, r in record.find(results):
            cost = r.cost if r.cost.get("status") == "ok" else {}
            stored = (r.predictions or {}).get("file")
            rows.append(
                {
                    "path": path.as_posix(),
                    "file": path.relative_to(results).as_posix(),
                    "answers": (path.parent / stored).as_posix() if stored else None,
                    "run_id": r.run_id,
                    "kind": r.kind,
                    "status": r.status,
                    "reason": r.reason,
                    "task": r.task,
                    "row": r.row,
                    "model": " ".join([r.model, *r.variant]),
                    "variant": bool(r.variant),
                    "budget": r.budget,
                    "seed": r.seed,
                    "config_hash": r.config_hash,
                    "fingerprint": r.data.get("fingerprint"),
                    "machine": r.machine.get("name"),
                    "device": r.machine.get("device"),
                    "threads": r.machine.get("threads"),
                    "dtype": r.dtype,
                    "accuracy": r.accuracy_test,
                    "items": r.items_test,
                    "local": r.local,
                    "steps": r.steps_budget,
                    "parameters": r.parameters,
                    "train_examples_per_second": cost.get("train", {}).get("examples_per_second"),
                    "inference_examples_per_second": cost.get("inference", {}).get("examples_per_second"),
                    "step_peak_bytes": cost.get("step_peak_bytes"),
                    "commit": r.commit,
                }
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    return pd.DataFrame(rows, columns=LOADED)


def latest(table: pd.DataFrame) -> pd.DataFrame:
    """Of the final model records, the last of each task, model, seed, configuration and conditions.

    A run that failed or was interrupted counts where its cell has no final record at all.
    """
    models = table[table.kind == "model"].sort_values("run_id")
    if models.empty:
        return models
    models = models.assign(**{c: models[c].fillna("unknown") for c in GROUP})
    final = models.status.isin(record.FINAL)
    concluded = pd.MultiIndex.from_frame(models[CELL]).isin(pd.MultiIndex.from_frame(models[final][CELL]))
    return models[final | ~concluded].drop_duplicates([*CELL, "seed", "config_hash", "fingerprint"], keep="last")


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each group, task row and model.

    accuracy            mean over `seeds` runs that ended ok; `failed` others did not (status, reason)
    low, high           its 95 % interval (lra.stats.interval; without stored answers lra.stats.wider)
    skill, floor        above the best local floor on record for the same data, and which that is
    relative_*, parameters_ratio   to the Transformer's on the same task, budget, machine, precision
    run_ids, files, answers        of the runs that ended ok, by seed; of all where none did

    A run with overrides is a row of its own, named with them (`variant`). Of several configurations
    under one name (an edited YAML) the newest is shown.
    """
    runs = latest(table)
    if not runs.empty:
        newest = runs.groupby(CELL)[["config_hash", "fingerprint"]].transform("last")
        same = (runs.config_hash == newest.config_hash) & (
            runs.fingerprint.eq(newest.fingerprint) | runs.fingerprint.isna()
        )
        runs = runs[same]
    runs = runs.sort_values(["seed", "run_id"]).drop_duplicates([*CELL, "seed"], keep="last") if len(runs) else runs
    grouped: dict[tuple, list[Any]] = {}
    for run in runs.itertuples():
        grouped.setdefault(tuple(getattr(run, name) for name in CELL), []).append(run)
    best = local_floors(table)
    rows = [dict(zip(CELL, key, strict=True)) | _cell(grouped[key], best) for key in sorted(grouped)]
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


def _cell(runs: list[Any], floors: dict[tuple[str, str], tuple[str, float]]) -> dict[str, Any]:
    """FIELDS of one cell from its runs, one a seed."""
    from lra import stats
    from lra.board.answers import right

    ok, bad = [r for r in runs if r.status == "ok"], [r for r in runs if r.status != "ok"]
    scored = [r for r in ok if pd.notna(r.accuracy)]
    kept, last = ok or runs, runs[-1]
    answers, items = tuple(r.answers for r in scored), max((r.items for r in scored), default=None)
    mean, low, high = (float("nan"),) * 3
    floor = floors.get((last.row, last.fingerprint), (None, None))
    if scored:
        mean = float(np.mean([r.accuracy for r in scored]))
        known = right(answers)
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
        "steps": kept[-1].steps,
        "examples_per_second": _over(np.median, [r.train_examples_per_second for r in runs]),
        "step_peak_bytes": _over(max, [r.step_peak_bytes for r in runs]),
        "run_ids": tuple(r.run_id for r in kept),
        "files": tuple(r.file for r in kept),
        "answers": answers,
    }


def _over(function: Callable[[list[float]], float], values: list[float | None]) -> float:
    """Of what was measured; not a number if nothing was."""
    known = [v for v in values if pd.notna(v)]
    return float(function(known)) if known else float("nan")


def floors(table: pd.DataFrame) -> pd.DataFrame:
    """The newest floor of each task row, rule and data."""
    rules = table[(table.kind == "floor") & (table.status == "ok")]
    return rules.sort_values("run_id").drop_duplicates(["row", "model", "fingerprint"], keep="last")


def local_floors(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, float]]:
    """(row, fingerprint) -> (rule, accuracy) of the best rule on record that is blind to long range."""
    rules = floors(table)
    rules = rules[rules.local.eq(True)].sort_values(["accuracy", "model"])
    return {(r.row, r.fingerprint): (r.model, r.accuracy) for r in rules.itertuples()}


def task_order(row: str) -> tuple[int, str]:
    names = [name for name in ORDER if row.startswith(name)]
    return (ORDER.index(max(names, key=len)) if names else len(ORDER), row)


def options(words: list[str]) -> dict[str, str]:
    """The `key=value` words of a command that reads records, over their defaults; UserError for another key."""
    chosen = {"results_dir": os.environ.get("LRA_RESULTS", "results")}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in chosen:
            raise UserError(f"{word!r} is not an option; allowed: results_dir=…{nearest(key, chosen)}")
        chosen[key] = value
    return chosen


def results_dir(words: list[str]) -> Path:
    folder = Path(options(words)["results_dir"])
    if not (folder / "runs").is_dir():
        raise UserError(f"results_dir: {folder} has no folder runs; make a run first: python -m lra task=listops")
    return folder


def main() -> int:
    from lra import board

    words = sys.argv[1:]
    folder = results_dir([w for w in words if w != CHECK])
    if CHECK in words:
        from lra.board.check import check

        return check(folder)
    from lra.beside import beside
    from lra.board import page, terminal

    with beside(page.charts, folder) as drawn:
        boards = board.boards(folder)
        if not boards:
            raise UserError(f"results_dir: no finished run in {folder / 'runs'}; make one: python -m lra task=listops")
        given = board.files(boards, drawn())
    for name, content in given.items():
        (folder / name).write_bytes(content)
    print(terminal.render(boards))
    print("\n".join(["", *(f"written: {folder / name}" for name in given)]))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
