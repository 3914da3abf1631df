"""The record of one run: what it holds, how it is written, how it is found again.

Standard library only. A record is written once, under a name nobody else has, and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = 2
STATUSES = ("ok", "oom", "diverged", "timeout", "interrupted", "failed")
FINAL = ("ok", "oom", "diverged")  # what the same command would only repeat
PHASES = ("train", "inference")  # of a cost, each timed on its own

# Parts of the configuration that do not change the experiment, left out of its hash.
INCIDENTAL = ("data_dir", "results_dir", "output_dir", "rerun", "wandb", "sweep", "seed", "name", "claims", "variant")
INCIDENTAL += ("cost", "minutes")  # of the sweep that asked for the run, not of the run


@dataclass(frozen=True)
class Record:
    """null means "not measured". Accuracies are fractions, sizes bytes, times seconds."""

    run_id: str
    started_utc: str
    kind: str  # model | floor | cost
    status: str
    task: str
    model: str
    budget: str
    row: str  # the task's name in tables: says what departs from the standard exam
    seed: int
    config: Mapping[str, Any]
    config_hash: str
    variant: list[str] = field(default_factory=list)  # overrides that depart from the budget's standard run
    data: Mapping[str, Any] = field(default_factory=dict)  # fingerprint, vocabulary, sizes, notes
    reason: str | None = None  # why the status is not ok, in one line
    local: bool | None = None  # of a floor: is the rule blind to long-range structure (see lra.skill)?
    accuracy_test: float | None = None
    items_test: int | None = None
    accuracy_valid: float | None = None
    items_valid: int | None = None
    loss_test: float | None = None
    steps_done: int | None = None
    steps_budget: int | None = None
    best_step: int | None = None
    curve: list[Mapping[str, Any]] = field(default_factory=list)
    predictions: Mapping[str, Any] | None = None  # file beside the record, its SHA-256
    checkpoint: str | None = None
    parameters: int | None = None
    length: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    cost: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)  # real examples/s, padding share
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    wall_seconds: Mapping[str, float] = field(default_factory=dict)
    schema: int = SCHEMA
    digest: str | None = field(default=None, compare=False)  # of all the rest; null before schema 2


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hex digits over the parts of a resolved configuration that shape the experiment."""
    part = {k: v for k, v in config.items() if k not in INCIDENTAL}
    if part.get("checkpoint"):
        part["checkpoint"] = Path(part["checkpoint"]).name
    part["task"] = {k: v for k, v in config.get("task", {}).items() if k not in ("data_dir", "path")}
    text = json.dumps(part, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of(raw: Mapping[str, Any]) -> str:
    """SHA-256 over a record as read from its file, less the digest itself: shows an edit by hand."""
    part = {k: v for k, v in raw.items() if k != "digest"}
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without what names places on this machine."""
    kept = {k: v for k, v in config.items() if k not in ("data_dir", "results_dir", "output_dir", "sweep")}
    kept["task"] = {k: v for k, v in config.get("task", {}).items() if k != "data_dir"}
    for part, key in ((kept["task"], "path"), (kept, "checkpoint")):
        if part.get(key):
            part[key] = Path(part[key]).name
    return kept


def new_id() -> tuple[str, str]:
    """(start time in UTC as ISO 8601, run id `<start>-<random>`)."""
    now = datetime.now(UTC)
    return now.isoformat(timespec="seconds"), f"{now:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def folder(results: Path, record: Record) -> Path:
    return results / "runs" / record.task / record.model


def write(results: str | Path, record: Record) -> Path:
    """Write atomically and durably to `<results>/runs/<task>/<model>/<run_id>.json`.

    Raises FileExistsError rather than replace a record, OSError if it cannot be written.
    """
    raw = json.loads(json.dumps(asdict(record), allow_nan=False))  # tuples and int keys as a file has them
    raw["digest"] = digest_of(raw)
    text = json.dumps(raw, indent=1, allow_nan=False) + "\n"
    return write_once(folder(Path(results), record) / f"{record.run_id}.json", text.encode())


def write_once(path: Path, content: bytes) -> Path:
    """Create `path` with `content`, whole or not at all, and see it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(draft, path)  # unlike rename, this fails if `path` exists
        except OSError:
            if path.exists():
                raise FileExistsError(path) from None
            draft.rename(path)  # a file system without hard links
    finally:
        draft.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return path


def read(path: str | Path) -> Record:
    """Load a record of this or an older schema. Raises ValueError naming the file.

    Fields that a newer schema added are taken at their defaults; fields unknown here are refused
    only if the record says it is of this schema or older, because then the file is wrong.
    """
    try:
        raw = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a record ({error})") from error
    known = {f.name for f in fields(Record)}
    if not isinstance(raw, dict) or "schema" not in raw or "status" not in raw:
        raise ValueError(f"{path}: not a record (no schema or status)")
    unknown = set(raw) - known
    if unknown and raw["schema"] <= SCHEMA:
        raise ValueError(f"{path}: unknown fields {', '.join(sorted(unknown))}")
    if raw["status"] not in STATUSES:
        raise ValueError(f"{path}: status {raw['status']!r} is not one of {', '.join(STATUSES)}")
    try:
        return Record(**{k: v for k, v in raw.items() if k in known})
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def find(results: str | Path, task: str = "*", model: str = "*") -> Iterator[tuple[Path, Record]]:
    """All records below a results folder, oldest first."""
    paths = (Path(results) / "runs").glob(f"{task}/{model}/*.json")
    for path in sorted((p for p in paths if not p.name.startswith(".")), key=lambda p: (p.name, str(p))):
        yield path, read(path)
