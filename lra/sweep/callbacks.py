"""Hydra's side of a sweep: its jobs sign up, and when all have, the sweep does them.

Hydra calls `lra.__main__.job` for each combination, which only says what is asked for. A bad word is
so refused before anything has run, and how jobs are done is ours alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback

from lra import console
from lra.errors import UserError, refuse
from lra.machine.signals import heard, interrupting
from lra.settings import build, compose
from lra.sweep.job import Job, Row, merged
from lra.sweep.once import Sweep, note
from lra.sweep.overview import Overview

TELL = 5.0  # seconds of composing from one word on it to the next
HYDRAS = BasicLauncher.launch


class Signed(Callback):
    """Collects the jobs of a sweep and, in the end, has them done by `end`, which tells whether all is well."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        self.begin = self.told = time.monotonic()
        self.jobs: list[Job] = []
        # Hydra composes each job once to see that it can be, and again to hand it over. As nothing is done before all
        # are handed over, the first is of no use, and half of the time.
        BasicSweeper.validate_batch_is_legal = lambda *_: None
        BasicLauncher.launch = lambda launcher, job_overrides, initial_job_idx: self.launch(
            launcher, job_overrides, initial_job_idx
        )

    def launch(self, launcher: BasicLauncher, given: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Sign up each job in its turn. Hydra takes half a second for one, so it has only those that it alone can
        compose, among them what it refuses."""
        out: list[JobReturn] = []
        for number, words in enumerate(given, first):
            if (found := merged(words, launcher.config.hydra)) is not None:
                self.sign(found)
            else:
                out += HYDRAS(launcher, [words], number)
        return out

    def on_job_end(self, config: Any, job_return: JobReturn, **_: Any) -> None:
        if isinstance(found := job_return._return_value, Job):
            self.sign(found)

    def sign(self, job: Job) -> None:
        self.jobs.append(job)
        if time.monotonic() - self.told > TELL:
            self.told = time.monotonic()
            note(f"{len(self.jobs)} runs composed: {job.label}")

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        # Hydra makes a warning of whatever error a callback raises; an exit it lets pass.
        try:
            good = self.end(config)
        except UserError as error:
            refuse(str(error))
        except Exception:
            traceback.print_exc()
            good = False
        if not good:
            raise SystemExit(1)

    def end(self, config: Any) -> bool:
        raise NotImplementedError


class Runs(Signed):
    """A sweep of runs, with its table. Exit code 0 only if every run that was begun ended ok."""

    def end(self, config: Any) -> bool:
        from lra import ledger
        from lra.sweep.dry import of_jobs
        from lra.sweep.minutes import by_value, within

        jobs = self.jobs if config.minutes is None else by_value(self.jobs)
        results = Path(os.path.expanduser(config.results_dir))  # noqa: PTH111
        if config.dry_run:
            text, good = of_jobs(jobs, config.results_dir)
            print(text)
            return good
        overview = Overview(results, [job.label for job in jobs])
        sweep = Sweep(build.instantiate(config.launcher, "launcher"), overview)
        if config.minutes is not None and not config.minutes > 0:
            raise UserError(f"minutes: {config.minutes:g} is not above 0")
        with heard(interrupting()):
            try:
                with overview:
                    if config.minutes is not None:
                        within(sweep, jobs, self.begin + 60 * config.minutes)
                    elif hasattr(sweep.launcher, "submit"):
                        from lra.sweep.spread import spread

                        spread(sweep, sweep.launcher, jobs)
                    else:
                        sweep.all(jobs)
            finally:
                print(table(sweep.rows, config.results_dir), flush=True)
                for key in swept(jobs):
                    drawn_over(key, results)
                if config.budget in ledger.BUDGETS:
                    print(beside_published(config.results_dir))
                if config.sweep == "abilities":
                    print(abilities_of(sweep.rows, results))
        return all(row.status in ("ok", "skipped") for row in sweep.rows)


class Rungs(Runs):
    """A sweep of which each job stands for several: those that `ladders` lists for its task, each with its own words,
    times `grid`, lists of words too."""

    def __init__(self, ladders: dict[str, list[list[str]]], grid: list[list[str]]) -> None:
        self.ladders, self.grid = ladders, grid

    def end(self, config: Any) -> bool:
        points = (
            job.also([*rung, *more])
            for job in self.jobs
            for rung in self.ladders.get(job.task, [[]])
            for more in self.grid
        )
        self.jobs = list(dict.fromkeys(points))  # words that are typed may leave several alike
        return super().end(config)


class Points(Signed):
    """A sweep of cost points, with its table. Exit code 0 only if every point has a number or is known to
    exceed the memory or the time. A bad option of one model does not keep the others from being measured."""

    def end(self, config: Any) -> bool:
        from lra.sweep.dry import of_points
        from lra.sweep.lengths import measured

        models, refused = {}, []
        for job in self.jobs:
            try:
                settings = compose.config(job.words, job.config_dir)
                models[" ".join([job.model, *settings.variant])] = settings
            except UserError as error:
                refused.append(f"{job.model}: {error}")
        if config.dry_run:
            if models:
                print(of_points(models))
            good = bool(models)
        else:
            with heard(interrupting()):
                good = measured(models) if models else False
        for line in refused:
            print(line, file=sys.stderr)
        return good and not refused


def table(rows: list[Row], results: str) -> str:
    """The table of a sweep, a line for each run that did not end ok, and the counts."""
    lines = []
    for row in rows:
        note = "recorded before" if row.known else "" if row.seconds is None else console.duration(row.seconds)
        if row.status != "skipped":
            lines.append([row.job.label, row.status, console.percent(row.accuracy), note])
    out = [console.table(lines, ["run", "status", "accuracy", "time"])]
    out += [f"{row.job.label}: {row.status}: {row.reason}" for row in rows if row.status != "ok"]
    skipped = sum(row.status == "skipped" for row in rows)
    bad = sum(row.status not in ("ok", "skipped") for row in rows)
    counts = f"{len(rows)} runs, {len(rows) - bad - skipped} ok, {bad} not" + f", {skipped} skipped" * bool(skipped)
    return "\n".join([*out, f"{counts}; records in {Path(results) / 'runs'}"])


def swept(jobs: list[Job]) -> list[str]:
    """Settings of which the jobs of a sweep have several values, and which may shape a result."""
    values: dict[str, set[str]] = {}
    for word in (word for job in jobs for word in job.words if compose.departs(word)):
        key, _, value = word.partition("=")
        values.setdefault(key.lstrip("+"), set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1 and "." in key]


def drawn_over(key: str, folder: Path) -> None:
    """The figure and the table over a setting, in a process of its own: figures know of sweeps, and not the reverse."""
    subprocess.run([sys.executable, "-m", "lra.plot", f"over={key}", f"results_dir={folder}"], check=False)


def beside_published(folder: str | Path) -> str:
    """Our cells of the papers' budgets beside those of the first table and of later ones, as text."""
    from lra import ledger, results

    found = results.load(folder)
    return ledger.comparison(found.cells, found.published)


def abilities_of(rows: list[Row], folder: Path) -> str:
    """The ability card of the model of a sweep; of several the board has a line each."""
    from lra.sweep.abilities import card

    models = {row.job.model for row in rows}
    if len(models) != 1:
        return f"\nwhat each can do: python -m lra.leaderboard results_dir={folder}" if models else ""
    return f"\n{card(folder, *models, [row.run_id for row in rows if row.run_id is not None])}"
