"""One run from start to record: data, cost, training, test, record, a short table."""

from __future__ import annotations

import hashlib
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from lra.errors import INTERRUPTED, UserError, first_line
from lra.measure.gauges import is_oom
from lra.record import sheet, store
from lra.runner.draft import Run
from lra.runner.phases import conduct, mirrored, prepare
from lra.runner.summary import show


def run(cfg: Any) -> int:
    """Do what the configuration says and leave one record. Returns the exit code.

    0 ok; 1 oom, diverged or failed; 130 interrupted. Raises UserError, before anything is
    recorded, for bad input. A failure of the code itself is a record too, and a traceback.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    started, run_id = store.new_id()
    this = Run(cfg, started, run_id)
    begin = time.perf_counter()
    path, main_process = None, True
    try:
        main_process = prepare(this)
        try:
            status, reason = conduct(this)
        except KeyboardInterrupt:
            status, reason = "interrupted", "stopped by the user or the system"
        except UserError:
            raise
        except Exception as error:
            if is_oom(error):
                status, reason = "oom", first_line(error)
            else:
                traceback.print_exc()
                status, reason = "failed", f"{type(error).__name__}: {first_line(error)}"
    except KeyboardInterrupt:
        if this.exam is None or "data" not in this.facts:
            raise
        status, reason = "interrupted", "stopped while the run was being prepared"
    this.wall["total"] = time.perf_counter() - begin
    if main_process:
        path = save(this, status, reason)
        table = show(this, status, reason, path)
        mirrored(this).finish(sheet.read(path), path, table)
    return {"ok": 0, "interrupted": INTERRUPTED}.get(status, 1)


def _as_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def save(this: Run, status: str, reason: str | None) -> Path:
    """Predictions first, then the record that names them: a record is never half of the truth."""
    results = Path(this.cfg.results_dir)
    if this.predictions is not None and status == "ok":
        name = f"{this.run_id}.predictions.npz"
        store.write_once(store.folder(results, this.record(status)) / name, this.predictions)
        digest = hashlib.sha256(this.predictions).hexdigest()
        this.facts["predictions"] = {"file": name, "sha256": digest, "items": this.facts["items_test"]}
    return store.write(results, this.record(status, reason))
