"""A sweep as an object: each of its jobs is known already, or run now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lra.errors import INTERRUPTED, USAGE, UserError
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import store
from lra.record.claim import Held, Watcher
from lra.record.record import Record
from lra.runner.keeper import End
from lra.runner.known import Shelf, known
from lra.runner.place import folder
from lra.settings import compose, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain
from lra.sweep.job import Job, Row, Skipped

PAUSE = 2.0  # seconds between two looks at what others are doing


class Launcher(Protocol):
    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End: ...


class Sweep:
    """rows: one a job, in order. Several that do the same at once share the work: what somebody else is doing is
    come back to when all else is done."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.watcher, self.shelf = Watcher(), Shelf()
        self.found: dict[int, Row] = {}

    @property
    def rows(self) -> list[Row]:
        return [row for _, row in sorted(self.found.items())]

    def newest(self, settings: Settings) -> Record | None:
        """The newest record of a run, whatever its status."""
        found = [e for e in self.shelf.entries(settings) if e.seed == settings.seed]
        wanted = identity.identity(plain(settings))
        return next((store.read(e.path) for e in reversed(found) if e.identity == wanted), None)

    def all(self, jobs: list[Job], allow: Callable[[Settings, str], float] | None = None) -> None:
        """Every job's row, from its record or from running it now.

        allow(settings, label) tells how many seconds the run may take, or raises Skipped.
        """
        waiting, said = list(enumerate(jobs, 1)), set()
        while waiting:
            left = []
            for number, job in waiting:
                label = f"[{number}/{len(jobs)}] {job.label}"
                owner = self.do(number, job, label, allow)
                if owner is not None:
                    left.append((number, job))
                    if number not in said:
                        note(f"{label}: {Held(owner, 0)}; come back to later")
                        said.add(number)
            waiting = left
            if waiting:
                time.sleep(PAUSE)

    def do(
        self, number: int, job: Job, label: str, allow: Callable[[Settings, str], float] | None = None
    ) -> Mapping[str, Any] | None:
        """The job's row; or who else is doing it."""
        row = Row(job, "failed")
        try:
            settings = compose.config(job.words, job.config_dir)
            if (found := known(settings, self.shelf)) is not None:
                row.take(found[1], known=True)
            else:
                owner, over = self.watcher.look(place_of(settings))
                if owner is not None:
                    allow and allow(settings, label)  # for as long as there is time
                    return owner
                seconds = allow(settings, label) if allow else None
                note(label)
                if (owner := self.run(row, seconds, over)) is not None:
                    return owner
        except Skipped as why:
            row.status, row.reason = "skipped", str(why)
        except (UserError, ValueError) as error:
            row.status, row.reason = "refused", str(error)
            note(f"{label}: {error}")
        except KeyboardInterrupt:
            row.status, row.reason = "interrupted", "goes on when the same is typed again"
            self.found[number] = row
            raise
        self.found[number] = row
        return None

    def run(self, row: Row, seconds: float | None, over: int) -> Mapping[str, Any] | None:
        """Have the row's job done; its record tells how it ended. Who else is doing it, if somebody was quicker."""
        begin = time.monotonic()
        end = self.launcher.launch(row.job, seconds, over)
        if end.held is not None:
            return end.held
        row.seconds = time.monotonic() - begin
        if end.path is not None:
            row.take(store.read(end.path), known=end.known)
        elif end.cut:
            row.status, row.reason = "interrupted", "its time was over; it goes on when the same is typed again"
        else:
            row.status = "refused" if end.code == USAGE else "failed"
            row.reason = f"exit code {end.code}, see above"
        if end.code == INTERRUPTED and not end.cut:
            raise KeyboardInterrupt
        return None


def place_of(settings: Settings) -> Path:
    """Where the run is kept while it has no record."""
    device = resolve_device(settings.device)
    return folder(settings, device, resolve_dtype(settings.dtype, device))


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
