"""Many runs: each in its own process, whatever is recorded is not done again, a table at the end.

Hydra's basic launcher calls `child` once a job, one after the other, so that no run disturbs
another's measurement. `Summary` is the Hydra callback that prints the last table. With `minutes=…`
the jobs only sign up, and `Summary` has lra.campaign do those that fit into the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from lra.errors import INTERRUPTED, UserError, refuse

GRACE = 60.0  # seconds that a run whose time is over has to write its record
ROWS: list[dict[str, Any]] = []  # one per job of this process's sweep, in order


@dataclass(frozen=True)
class Job:
    """One run of a sweep: the words that name it, and how it is called in tables."""

    words: list[str]
    config_dir: str | None
    task: str
    model: str
    seed: int
    label: str


class Skipped(Exception):
    """Why a job is not started."""


def child(cfg: Any, settings: Any) -> dict[str, Any]:
    """Run one job of a sweep in a fresh process; never raises for what happens in it."""
    if cfg.sweep == "cost":
        from lra.cost_sweep import enlist

        return enlist(settings)
    job = named(cfg, settings)
    if cfg.minutes is not None:
        from lra.campaign import JOBS

        if not cfg.minutes > 0:
            refuse(f"minutes: {cfg.minutes:g} is not above 0")
        JOBS.append(job)
        return {"label": job.label}
    return conduct(job, f"[{len(ROWS) + 1}]")


def named(cfg: Any, settings: Any) -> Job:
    """The job that Hydra hands to a process, as words that compose it again without the sweep."""
    choices = settings.runtime.choices
    words = [w for w in settings.overrides.task if w.split("=")[0] not in ("sweep", "minutes")]
    if not any(w.startswith("budget=") for w in words):
        words.append(f"budget={choices.budget}")  # the sweep's file may have chosen another
    known = {"task", "model", "seed", "budget", "results_dir", "output_dir", "data_dir"}
    other = [w for w in words if w.split("=")[0] not in known]
    label = " ".join([choices.task, choices.model, f"s{cfg.seed}", *other])
    return Job(words, config_dir(settings), choices.task, choices.model, cfg.seed, label)


def config_dir(settings: Any) -> str | None:
    """The folder of `--config-dir`, from Hydra's own settings."""
    return next((s.path for s in settings.runtime.config_sources if s.provider == "command-line"), None)


def conduct(job: Job, number: str, allow: Callable[[Any], float] | None = None) -> dict[str, Any]:
    """The job's row of the table: from its record, or from running it now.

    allow(cfg) tells how many seconds the run may take, or raises Skipped.
    """
    from lra import compose, record

    row: dict[str, Any] = {"label": job.label, "task": job.task, "model": job.model}
    ROWS.append(row)
    try:
        cfg = compose.config(job.words, job.config_dir)
        done = None if cfg.rerun else already(cfg)
        if done is not None:
            row |= {"status": done.status, "reason": done.reason, "accuracy": done.accuracy_test, "known": True}
            return row
        seconds = allow(cfg) if allow else None
    except Skipped as why:
        row |= {"status": "skipped", "reason": str(why)}
        return row
    except (UserError, ValueError) as error:
        row |= {"status": "refused", "reason": str(error)}
        print(f"{number} {job.label}: {error}", file=sys.stderr)
        return row
    print(f"{number} {job.label}", file=sys.stderr, flush=True)
    before = {path for path, _ in record.find(cfg.results_dir, job.task, job.model)}
    begin = time.monotonic()
    code, cut = started(job, seconds)
    new = [r for path, r in record.find(cfg.results_dir, job.task, job.model) if path not in before]
    if new:
        row |= {"status": new[-1].status, "reason": new[-1].reason, "accuracy": new[-1].accuracy_test}
    elif cut:
        row |= {"status": "interrupted", "reason": "the time was over while it started"}
    else:
        row |= {"status": "refused" if code == 2 else "failed", "reason": f"exit code {code}, see above"}
    row["seconds"] = time.monotonic() - begin
    if code == INTERRUPTED and not cut:
        raise KeyboardInterrupt
    return row


def started(job: Job, seconds: float | None) -> tuple[int, bool]:
    """Run the job to its end or for that many seconds: (exit code, was it cut off?)."""
    config_dir = [f"--config-dir={job.config_dir}"] if job.config_dir else []
    run = subprocess.Popen(
        [sys.executable, "-m", "lra", *config_dir, *job.words, "hydra.mode=RUN"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LRA_SWEEP": str(os.getpid())},
    )
    try:
        return run.wait(seconds), False
    except KeyboardInterrupt:
        run.wait()  # it has got the signal too, and is writing its record
        raise
    except subprocess.TimeoutExpired:
        run.terminate()
    try:
        return run.wait(GRACE), True
    except subprocess.TimeoutExpired:
        run.kill()
        return run.wait(), True


def already(cfg: Any) -> Any:
    """The record that the same command would only repeat, or None.

    Same configuration, seed, data, device and precision; a status that is final.
    """
    from lra import compose, record
    from lra.train import resolve_device, resolve_dtype

    wanted = record.config_hash(compose.plain(cfg))
    candidates = [
        r
        for _, r in record.find(cfg.results_dir, cfg.choices.task, cfg.choices.model)
        if r.kind == "model" and r.status in record.FINAL and r.config_hash == wanted and r.seed == cfg.seed
    ]
    if not candidates:
        return None
    fingerprint = compose.task(cfg).fingerprint()
    for r in reversed(candidates):
        if (
            r.data.get("fingerprint") == fingerprint
            and r.machine.get("device") == resolve_device(cfg)
            and r.dtype == resolve_dtype(cfg)
        ):
            return r
    return None


class Summary(Callback):
    """Prints the table of a sweep and sets its exit code: 0 only if every run that was begun ended ok."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        # Hydra makes a warning of whatever error a callback raises; an exit it lets pass.
        try:
            good = self.end(config)
        except UserError as error:
            refuse(str(error))
        if not good:
            raise SystemExit(1)

    def end(self, config: Any) -> bool:
        """With `minutes`, run what has signed up; then the table. False if a run did not end ok."""
        from lra import campaign, report

        try:
            if config.minutes is not None:
                campaign.conduct(config.minutes)
        finally:
            lines = []
            for row in ROWS:
                note = report.duration(row["seconds"]) if "seconds" in row else ""
                note = "recorded before" if row.get("known") else note
                if row["status"] != "skipped":
                    lines.append([row["label"], row["status"], report.percent(row.get("accuracy")), note])
            print(report.table(lines, ["run", "status", "accuracy", "time"]))
            for row in ROWS:
                if row["status"] != "ok":
                    print(f"{row['label']}: {row['status']}: {row['reason']}")
            skipped = sum(row["status"] == "skipped" for row in ROWS)
            bad = sum(row["status"] not in ("ok", "skipped") for row in ROWS)
            counts = f"{len(ROWS)} runs, {len(ROWS) - bad - skipped} ok, {bad} not"
            counts += f", {skipped} skipped" if skipped else ""
            print(f"{counts}; records in {Path(config.results_dir) / 'runs'}")
            if config.budget == "paper":
                print(campaign.beside_published(config.results_dir))
        return not bad
