"""Many runs: each in its own process, whatever is recorded is not done again, a table at the end.

Hydra's basic launcher calls `child` once a job, one after the other, so that no run disturbs
another's measurement. `Summary` is the Hydra callback that prints the last table.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from lra.errors import INTERRUPTED

ROWS: list[dict[str, Any]] = []  # one per job of this process's sweep, in order


def child(cfg: Any, settings: Any) -> dict[str, Any]:
    """Run one job of a sweep in a fresh process; never raises for what happens in it."""
    if cfg.sweep == "cost":
        from lra.cost_sweep import enlist

        return enlist(settings)
    from lra import compose, record
    from lra.errors import UserError

    words = [w for w in settings.overrides.task if not w.startswith("sweep=")]
    choices = settings.runtime.choices
    known = {"task", "model", "seed", "budget", "results_dir", "output_dir", "data_dir"}
    other = [w for w in words if w.split("=")[0] not in known]
    label = " ".join([choices.task, choices.model, f"s{cfg.seed}", *other])
    row: dict[str, Any] = {"label": label, "task": choices.task, "model": choices.model}
    ROWS.append(row)
    number = f"[{len(ROWS)}]"
    folders = [s.path for s in settings.runtime.config_sources if s.provider == "command-line"]
    try:
        job = compose.config(words, folders[0] if folders else None)
        done = None if cfg.rerun else already(job)
    except (UserError, ValueError) as error:
        row |= {"status": "refused", "reason": str(error)}
        print(f"{number} {label}: {error}", file=sys.stderr)
        return row
    if done is not None:
        row |= {"status": done.status, "reason": done.reason, "accuracy": done.accuracy_test, "known": True}
        return row
    print(f"{number} {label}", file=sys.stderr, flush=True)
    config_dir = [f"--config-dir={folders[0]}"] if folders else []
    before = {path for path, _ in record.find(cfg.results_dir, choices.task, choices.model)}
    begin = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "lra", *config_dir, *words, "hydra.mode=RUN"], stdout=subprocess.DEVNULL
    )
    try:
        code = run.wait()
    except KeyboardInterrupt:
        run.wait()  # it has got the signal too, and is writing its record
        raise
    new = [r for path, r in record.find(cfg.results_dir, choices.task, choices.model) if path not in before]
    if new:
        row |= {"status": new[-1].status, "reason": new[-1].reason, "accuracy": new[-1].accuracy_test}
    else:
        row |= {"status": "refused" if code == 2 else "failed", "reason": f"exit code {code}, see above"}
    row["seconds"] = time.monotonic() - begin
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return row


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
    """Prints the table of a sweep and sets its exit code: 0 only if every run ended ok."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        from lra import report

        lines = []
        for row in ROWS:
            note = (
                "recorded before" if row.get("known") else report.duration(row["seconds"]) if "seconds" in row else ""
            )
            lines.append(
                [
                    row["label"],
                    row["status"],
                    report.percent(row.get("accuracy")),
                    note,
                ]
            )
        print(report.table(lines, ["run", "status", "accuracy", "time"]))
        for row in ROWS:
            if row["status"] != "ok":
                print(f"{row['label']}: {row['status']}: {row['reason']}")
        bad = sum(row["status"] != "ok" for row in ROWS)
        print(f"{len(ROWS)} runs, {len(ROWS) - bad} ok, {bad} not; records in {Path(config.results_dir) / 'runs'}")
        if bad:
            raise SystemExit(1)
