"""Records on disk: written once, under a name nobody else has, whole, and found again."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from lra.record.record import Record, digest_of
from lra.record.sheet import Damaged, Sheet, opened, read


def new_id() -> tuple[str, str]:
    """(start time in UTC as ISO 8601, run id `<start>-<random>`)."""
    now = datetime.now(UTC)
    return now.isoformat(timespec="seconds"), f"{now:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def folder(results: Path, task: str, model: str) -> Path:
    return results / "runs" / task / model


def write(results: str | Path, record: Record) -> Path:
    """Write atomically and durably to `<results>/runs/<task>/<model>/<run_id>.json`.

    Raises FileExistsError rather than replace a record, OSError if it cannot be written.
    """
    raw = json.loads(json.dumps(asdict(record), allow_nan=False))  # tuples and int keys as a file has them
    raw["digest"] = digest_of(raw)
    text = json.dumps(raw, indent=1, allow_nan=False) + "\n"
    return write_once(folder(Path(results), record.task, record.model) / f"{record.run_id}.json", text.encode())


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


def replace(path: Path, content: bytes) -> None:
    """Put `content` in the place of what `path` holds, whole or not at all. For what may change: a record may not."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def paths(results: str | Path, task: str = "*", model: str = "*") -> list[Path]:
    """Where all records below a results folder lie, oldest first."""
    found = (Path(results) / "runs").glob(f"{task}/{model}/*.json")
    return sorted((p for p in found if not p.name.startswith(".")), key=lambda p: (p.name, str(p)))


def find(results: str | Path, task: str = "*", model: str = "*") -> Iterator[tuple[Path, Record]]:
    """All records below a results folder, oldest first. Raises lra.record.sheet.Damaged at one that is none."""
    for path in paths(results, task, model):
        yield path, read(path)


def sheets(results: str | Path, damaged: Callable[[Damaged], None]) -> Iterator[Sheet]:
    """All records below a results folder that can be shown, oldest first; `damaged` is told of each other file.

    One is held at a time: twenty thousand of them would take a gigabyte.
    """
    for path in paths(results):
        try:
            yield opened(path)
        except Damaged as error:
            damaged(error)
