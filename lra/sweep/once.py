"""A sweep as an object: each of its jobs is known already, or run now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from lra.errors import INTERRUPTED, UserError
from lra.record import store
from lra.runner.known import known
from lra.settings import compose
from lra.settings.schema import Settings
from lra.sweep.job import Job, Row, Skipped


class Launcher(Protocol):
    def launch(self, job: Job, seconds: float | None = None) -> tuple[int, bool]: ...


class Sweep:
    """rows: one a job, in order."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.rows: list[Row] = []

    def do(self, job: Job, number: str, allow: Callable[[Settings], float] | None = None) -> Row:
        """The job's row, from its record or from running it now.

        allow(settings) tells how many seconds the run may take, or raises Skipped.
        """
        row = Row(job, "failed")
        self.rows.append(row)
        try:
            settings = compose.config(job.words, job.config_dir)
            if (found := known(settings)) is not None:
                done = found[1]
                row.status, row.reason, row.accuracy, row.known = done.status, done.reason, done.accuracy_test, True
                return row
            seconds = allow(settings) if allow else None
        except Skipped as why:
            row.status, row.reason = "skipped", str(why)
            return row
        except (UserError, ValueError) as error:
            row.status, row.reason = "refused", str(error)
            print(f"{number} {job.label}: {error}", file=sys.stderr)
            return row
        print(f"{number} {job.label}", file=sys.stderr, flush=True)
        self.run(row, settings.results_dir, seconds)
        return row

    def run(self, row: Row, results: str, seconds: float | None) -> None:
        """Have the row's job done; its record tells how it ended."""
        job = row.job
        before = set(store.paths(results, job.task, job.model))
        begin = time.monotonic()
        code, cut = self.launcher.launch(job, seconds)
        new = [store.read(p) for p in store.paths(results, job.task, job.model) if p not in before]
        if new:
            row.status, row.reason, row.accuracy = new[-1].status, new[-1].reason, new[-1].accuracy_test
        elif cut:
            row.status, row.reason = "interrupted", "the time was over while it started"
        else:
            row.status, row.reason = "refused" if code == 2 else "failed", f"exit code {code}, see above"
        row.seconds = time.monotonic() - begin
        if code == INTERRUPTED and not cut:
            raise KeyboardInterrupt
