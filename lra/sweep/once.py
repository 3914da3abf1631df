"""A sweep as an object: each of its jobs is known already, or run now."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lra.errors import INTERRUPTED, UserError
from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import record, store
from lra.settings import build, compose, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain
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
            done = None if settings.rerun == "all" else already(settings)
            if done is not None and not (settings.rerun == "failed" and done.status != "ok"):
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


def already(settings: Settings) -> record.Record | None:
    """The record that the same command would only repeat, or None.

    Same experiment, seed and data; made under the conditions asked for; a status that is final.
    """
    wanted, here = identity.identity(plain(settings)), None
    candidates = [
        r
        for _, r in store.find(settings.results_dir, settings.choices.task, settings.choices.model)
        if r.kind == "model"
        and r.status in (*record.FINAL, "failed")
        and r.seed == settings.seed
        and identity.identity(r.config) == wanted
        and meets(r, settings)
    ]
    if any(r.status == "failed" for r in candidates):
        here = {"commit": facts.commit()[0], "versions": facts.versions()}
        candidates = [r for r in candidates if concluded(r, here)]
    if not candidates:
        return None
    fingerprint = build.task(settings).fingerprint()
    return next((r for r in reversed(candidates) if r.data.get("fingerprint") == fingerprint), None)


def concluded(r: record.Record, here: Mapping[str, Any]) -> bool:
    """Would the same command only repeat it? A failure by itself that was met by this very code, and is no kill
    from outside. here: the commit and the versions of what would run now."""
    if r.status != "failed":
        return r.status in record.FINAL
    same = r.commit == here["commit"] and dict(r.versions) == here["versions"] and not r.dirty
    return same and r.signal not in record.OUTSIDE


def meets(r: record.Record, settings: Settings) -> bool:
    """Was a run made under the conditions asked for? Device and precision as they resolve here; threads
    where a number of them is asked for; the rest as configured."""
    device = resolve_device(settings.device)
    if r.machine.get("device") != device or r.dtype != resolve_dtype(settings.dtype, device):
        return False
    if settings.threads is not None and r.machine.get("threads") != settings.threads:
        return False
    return not identity.conditions_differ(r.config, settings)
