"""What a sweep has done, is doing and has yet to do: kept in its results folder while it goes on, so that another
terminal or another machine sees the same.

    python -m lra.sweep status [results_dir=...]
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lra import console
from lra.machine.alive import is_gone, me
from lra.record import store
from lra.record.content import MIB, content
from lra.record.unfinished import left
from lra.runner.keeper import GOING
from lra.sweep.job import Row

EVERY = 2.0  # seconds between two that are written
WAITING, RUNNING, INTERRUPTED = "waiting", "running", "interrupted"


@dataclass
class Line:
    """A run of a sweep. status: a record's or a row's, or one of those above. accuracy: of the test, or the last on
    valid while it runs. left: seconds."""

    label: str
    status: str = WAITING
    accuracy: float | None = None
    step: int | None = None
    steps: int | None = None
    left: float | None = None
    reason: str | None = None

    def cells(self) -> list[str]:
        step = "" if self.step is None else f"{self.step:,}/{self.steps or 0:,}"
        time_left = "" if self.left is None else f"{console.duration(self.left)} left"
        return [self.label, self.status, step, console.percent(self.accuracy), time_left]


class Overview:
    """Of a sweep over runs of so many labels; as a context it is kept in the folder, and is gone in the end."""

    def __init__(self, results: Path, labels: Sequence[str]) -> None:
        self.lines = [Line(label) for label in labels]
        self.path = results / "sweeps" / f"{store.new_id()[1]}.json"
        self.over = threading.Event()
        self.found: Mapping[int, Row] = {}  # rows by number, of those that have one

    def __enter__(self) -> Overview:
        self.write()
        self.thread = threading.Thread(target=self._go_on, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()  # if it was the last

    def begin(self, number: int) -> None:
        """number: of the run, from 1."""
        self.lines[number - 1].status = RUNNING

    def end(self, number: int, row: Row | None) -> None:
        """row: null of one that somebody else is doing."""
        line = self.lines[number - 1]
        line.left = None
        if row is None:
            line.status = WAITING
        else:
            line.status, line.accuracy, line.reason = row.status, row.accuracy, row.reason

    def look(self) -> None:
        """Take over how far the runs have come."""
        for number, row in tuple(self.found.items()):
            self.end(number, row)
        for watch in tuple(GOING.watches):
            for line in self.lines:
                if line.label == watch.label and line.status == RUNNING:
                    draft = watch.draft or {}
                    line.accuracy, line.left = draft.get("accuracy_valid"), watch.seconds_left()
                    line.step, line.steps = watch.step, watch.steps

    def write(self) -> None:
        self.look()
        said = {"owner": me(), "lines": [asdict(line) for line in self.lines]}
        with suppress(OSError):  # it is not what a sweep is for
            self.path.parent.mkdir(parents=True, exist_ok=True)
            store.replace(self.path, json.dumps(said).encode())

    def _go_on(self) -> None:
        while not self.over.wait(EVERY):
            self.write()


def ended(label: str, row: Row) -> str:
    """The line of a run that is over."""
    parts = [row.status, console.percent(row.accuracy) if row.accuracy is not None else row.reason or ""]
    parts.append("" if row.seconds is None else console.duration(row.seconds))
    return f"{label}: {', '.join(part for part in parts if part)}"


def read(path: Path) -> tuple[list[Line], bool | None]:
    """The lines of a sweep, and whether its process has ended (null: it is on another host). Raises ValueError for a
    file that holds none."""
    found = json.loads(content(path, 64 * MIB).decode())
    try:
        lines, gone = [_line(**line) for line in found["lines"]], is_gone(found["owner"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no sweep") from error
    if gone:
        for line in lines:
            line.status = INTERRUPTED if line.status == RUNNING else line.status
    return lines, gone


def _line(label: str, status: str, reason: str | None, **numbers: float | None) -> Line:
    """Of a file, which anybody may have written. Raises TypeError."""
    if not all(v is None or type(v) in (int, float) for v in numbers.values()):
        raise TypeError(f"{label!r} has something else than numbers")
    shown = console.line(reason) if reason is not None else None
    return Line(console.line(label), console.line(status), reason=shown, **numbers)


def status(results: Path) -> str:
    """All sweeps of a folder that go on or were cut off, and what else was stopped, as text."""
    out: list[str] = []
    for path in sorted((results / "sweeps").glob("*.json")):
        try:
            lines, gone = read(path)
        except (OSError, ValueError) as error:
            out.append(str(error))
            continue
        out += [console.table([line.cells() for line in lines], ["run", "status", "step", "accuracy", "time"])]
        out += [f"{line.label}: {line.status}: {line.reason}" for line in lines if line.reason and line.status != "ok"]
        heard = console.duration(max(0.0, time.time() - path.stat().st_mtime))
        how = "its process has ended" if gone else f"heard of {heard} ago"
        out.append(f"{counted([line.status for line in lines])}; {how}")
    stopped = [_stopped(row) for row in left(results)]
    if stopped:
        out.append(console.table(stopped, ["kept, to be gone on with", "step", "accuracy"]))
    return "\n".join(out or [f"no sweep goes on in {results}, and nothing was stopped"])


def counted(statuses: Sequence[str]) -> str:
    return f"{len(statuses)} runs: {', '.join(f'{n} {status}' for status, n in Counter(statuses).items())}"


def _stopped(row: dict[str, Any]) -> list[str]:
    label = f"{row['task']} {row['model']} s{row['seed']}"
    return [label, f"{row['step'] or 0:,}/{row['steps'] or 0:,}", console.percent(row["accuracy_valid"])]
