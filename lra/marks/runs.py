"""A row a record."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lra.errors import UserError
from lra.record import record, store

REFERENCE = "transformer"
GROUP = ["budget", "machine", "dtype"]
CELL = [*GROUP, "row", "model"]
# Columns of `load` and of a cell.
LOADED = (
    "path", "file", "answers", "run_id", "kind", "status", "reason", "task", "row", "model", "variant", "budget",
    "seed", "config_hash", "fingerprint", "machine", "device", "threads", "dtype", "accuracy", "items", "local",
    "steps", "parameters", "train_examples_per_second", "inference_examples_per_second", "step_peak_bytes", "commit",
)  # fmt: skip


def load(results: str | Path) -> pd.DataFrame:
    """One row a record: its flat fields, and of its costs those that tables show.

    path: of the record; file: the same below `results`; answers: of the stored predictions, null
    without. Raises UserError naming a file that is not a record.
    """
    rows = []
    try:
        for path, r in store.find(results):
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


def floors(table: pd.DataFrame) -> pd.DataFrame:
    """The newest floor of each task row, rule and data."""
    rules = table[(table.kind == "floor") & (table.status == "ok")]
    return rules.sort_values("run_id").drop_duplicates(["row", "model", "fingerprint"], keep="last")


def local_floors(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, float]]:
    """(row, fingerprint) -> (rule, accuracy) of the best rule on record that is blind to long range."""
    rules = floors(table)
    rules = rules[rules.local.eq(True)].sort_values(["accuracy", "model"])
    return {(r.row, r.fingerprint): (r.model, r.accuracy) for r in rules.itertuples()}


def learning(results: str | Path, run_ids: set[str]) -> pd.DataFrame:
    """One row for each evaluation of those runs: row, model, seed, status, step, valid_accuracy."""
    rows = [
        {"row": r.row, "model": r.model, "seed": r.seed, "status": r.status}
        | {"step": point["step"], "valid_accuracy": point.get("valid_accuracy")}
        for _, r in store.find(results)
        if r.run_id in run_ids
        for point in r.curve
    ]
    columns = ["row", "model", "seed", "status", "step", "valid_accuracy"]
    return pd.DataFrame(rows, columns=columns).astype({"valid_accuracy": float})
