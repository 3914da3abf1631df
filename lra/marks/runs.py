"""A row a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra.marks.exams import Exams
from lra.record import record
from lra.record.record import Record
from lra.record.sheet import Sheet
from lra.settings import identity

REFERENCE = "transformer"
GROUP = ["budget", "machine", "dtype"]
CELL = [*GROUP, "row", "model"]
# What is scored is the same on every machine, but for runs that are asked for by minutes; what it costs is not.
JOINED = ["budget", "where", "dtype", "row", "model"]
COLUMNS = (
    "file", "answers", "sha256", "run_id", "kind", "status", "reason", "edited", "task", "row", "exam", "model",
    "variant", "budget", "seed", "config_hash", "fingerprint", "machine", "device", "threads", "dtype", "accuracy",
    "items", "local", "steps", "parameters", "active_parameters", "state_floats", "train_examples_per_second",
    "inference_examples_per_second", "step_peak_bytes", "train_flops", "commit", "contract", "blind", "departs",
    "stale", "ability", "uses_2d", "training_core_seconds", "pretraining", "pretraining_core_seconds", "where",
    "searched",
)  # fmt: skip
EVALUATED = ("run_id", "row", "model", "seed", "status", "step", "valid_accuracy", "core_seconds")


def row(sheet: Sheet, file: str, exams: Exams) -> tuple[Any, ...]:
    """COLUMNS of one record.

    file: of the record, below the results folder. answers: of the stored predictions, null without. exam: what
    tables know of it. model: with the overrides, if any. Costs are those of a measurement that ended ok, FLOPs
    of an example. ability: does it belong to lra.marks.abilities? uses_2d: does the model know rows and columns?
    training_core_seconds: all learning rates together. pretraining: what it was, null without. where: the machine of a
    run whose steps depend on it (lra.runner.minutes), else empty. searched: what chose its settings, null of none.
    """
    r, stored = sheet.record, sheet.predictions
    cost = r.cost if r.cost.get("status") == "ok" else {}
    exam = exams.of(r.task, r.row, r.config.get("exam"))
    return (
        file,
        stored.as_posix() if stored else None,
        r.predictions.get("sha256") if stored else None,
        r.run_id,
        r.kind,
        r.status,
        r.reason,
        sheet.edited,
        r.task,
        r.row,
        exam,
        " ".join([r.model, *(departures := identity.departures(r.variant))]),
        bool(departures),
        r.budget,
        r.seed,
        identity.identity(r.config) if r.kind == "model" else r.config_hash,  # one rule for records of all ages
        r.data.get("fingerprint"),
        machine_of(r),
        r.machine.get("device"),
        r.machine.get("threads"),
        r.dtype,
        r.accuracy_test,
        r.items_test,
        r.local,
        r.steps_budget,
        r.parameters,
        r.active_parameters,
        r.state_floats,
        (cost.get("train") or {}).get("examples_per_second"),
        (cost.get("inference") or {}).get("examples_per_second"),
        cost.get("step_peak_bytes"),
        _each(cost.get("train_flops"), cost.get("batch_size")),
        r.commit,
        "; ".join(f"{point}: {found}" for point, found in (r.contract.get("broken") or {}).items()) or None,
        r.contract.get("blind"),
        departs(r.config),
        exams.changed_since(r.task, r.model, r.config) if r.kind == "model" else None,
        r.kind == "model" and bool(r.score or exam.asks),  # one that failed has no score
        bool((r.config.get("about") or {}).get("uses_2d")),
        60 * r.minutes["used"] if r.minutes.get("used") else r.training.get("core_seconds"),
        ", ".join(r.pretraining[key] for key in ("objective", "use")) if r.pretraining else None,
        r.pretraining.get("core_seconds"),
        (machine_of(r) or "unknown") if r.minutes or _by_minutes(r.config) else "",
        searched(r.config),
    )


def machine_of(r: Record) -> str | None:
    """The machine as tables name it. Of a processor two numbers of threads are two machines, since no time on one
    compares with a time on the other; so are one that keeps freed memory and one that gives it back
    (lra.machine.memory). One thread, which the boards are made with, and the latter are not told."""
    name, threads = r.machine.get("name"), r.machine.get("threads")
    if not isinstance(name, str) or r.machine.get("device") != "cpu":
        return name
    several = f", {threads} threads" if isinstance(threads, int) and threads != 1 else ""
    return f"{name}{several}{', memory kept' if r.machine.get('memory_kept') else ''}"


def one_thread(threads: Any) -> str:
    """For titles, which name the machine: what `machine_of` does not tell."""
    return ", 1 thread" if threads == 1 else ""


def searched(config: Mapping[str, Any]) -> str | None:
    """What lra.tune has chosen the settings of a run by: "20 trials over size.dropout, 1 of them without a score"."""
    said = config.get("search") or {}
    if not said.get("trials"):
        return None
    failed = f", {said['failed']} of them without a score" if said.get("failed") else ""
    return f"{said['trials']} trials over {', '.join(said.get('over') or ()) or 'nothing'}{failed}"


def is_trial(r: Record) -> bool:
    """Has the run not sat the test, as lra.tune asks of its trials? Such is no result, nor its lack a failure."""
    return r.config.get("test") is False


def _by_minutes(config: Mapping[str, Any]) -> bool:
    """Was a run that ended before it knew its steps asked for by minutes?"""
    train = config.get("train")
    return isinstance(train, Mapping) and train.get("core_minutes") is not None and train.get("steps") is None


def _each(flops: int | None, examples: int | None) -> float | None:
    return flops / examples if flops and examples else None


def departs(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the model's own file sets otherwise than the exam's sizes: "pooling mean, not cls"."""
    model, size = config.get("model"), config.get("size")
    if not (isinstance(model, Mapping) and isinstance(size, Mapping)):
        return ()
    both = [key for key in size if key in model and model[key] != size[key]]
    return tuple(f"{key} {model[key]}, not {size[key]}" for key in both)


def evaluations(r: Record) -> list[tuple[Any, ...]]:
    """EVALUATED of each evaluation while a model trained."""
    if r.kind != "model":
        return []
    about = r.run_id, r.row, r.model, r.seed, r.status
    return [(*about, p["step"], p.get("valid_accuracy"), p.get("core_seconds")) for p in r.curve]


def titled(budget: str, machine: str, dtype: str) -> str:
    """A group in words; of all machines without one."""
    return ", ".join(filter(None, (f"budget {budget}", machine, dtype)))


def frame(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A row a record."""
    return pd.DataFrame(rows, columns=COLUMNS)


def learning(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A row an evaluation."""
    return pd.DataFrame(rows, columns=EVALUATED).astype({"valid_accuracy": float, "core_seconds": float})


def latest(table: pd.DataFrame, cell: Sequence[str] = CELL) -> pd.DataFrame:
    """Of the final model records, the last of each cell, seed, configuration and data.

    A run that failed or was interrupted counts where its cell has no final record at all.
    """
    cell = list(cell)
    models = table[table.kind == "model"].sort_values("run_id")
    if models.empty:
        return models
    models = models.assign(**{c: models[c].fillna("unknown") for c in GROUP})
    final = models.status.isin(record.FINAL)
    concluded = pd.MultiIndex.from_frame(models[cell]).isin(pd.MultiIndex.from_frame(models[final][cell]))
    return models[final | ~concluded].drop_duplicates([*cell, "seed", "config_hash", "fingerprint"], keep="last")


def by_cell(table: pd.DataFrame, cell: Sequence[str] = CELL) -> dict[tuple[str, ...], list[Any]]:
    """The runs that each cell shows, one a seed, by seed: of several configurations under one name (an edited YAML) or
    several data those of the newest."""
    cell, runs = list(cell), latest(table, cell)
    if runs.empty:
        return {}
    newest = runs.groupby(cell)[["config_hash", "fingerprint"]].transform("last")
    same = (runs.config_hash == newest.config_hash) & (
        runs.fingerprint.eq(newest.fingerprint) | runs.fingerprint.isna()
    )
    runs = runs[same].sort_values(["seed", "run_id"]).drop_duplicates([*cell, "seed"], keep="last")
    found: dict[tuple[str, ...], list[Any]] = {}
    for run in runs.itertuples():
        found.setdefault(tuple(getattr(run, name) for name in cell), []).append(run)
    return dict(sorted(found.items()))


def floors(table: pd.DataFrame) -> pd.DataFrame:
    """The newest floor of each task row, rule and data."""
    rules = table[(table.kind == "floor") & (table.status == "ok")]
    return rules.sort_values("run_id").drop_duplicates(["row", "model", "fingerprint"], keep="last")


def local_floors(table: pd.DataFrame) -> dict[tuple[str, str], tuple[str, float]]:
    """(row, fingerprint) -> (rule, accuracy) of the best rule on record that is blind to long range."""
    rules = floors(table)
    rules = rules[rules.local.eq(True)].sort_values(["accuracy", "model"])
    return {(r.row, r.fingerprint): (r.model, r.accuracy) for r in rules.itertuples()}
