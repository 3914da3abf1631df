"""One run from start to record: its phases one after the other, and what becomes of whatever ends them."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lra.errors import INTERRUPTED, UserError, first_line
from lra.measure.gauges import is_oom
from lra.record import store
from lra.record.record import Record
from lra.runner import phases
from lra.runner.draft import Draft, Ended
from lra.runner.mirror import mirrored
from lra.runner.summary import show
from lra.settings.schema import Settings


def run(settings: Settings) -> int:
    """Do what the settings say and leave one record. Returns the exit code.

    0 ok; 1 oom, diverged or failed; 130 interrupted. Raises UserError, before anything is
    recorded, for bad input. A failure of the code itself is a record too, and a traceback.
    """
    record = recorded(settings)
    return {"ok": 0, "interrupted": INTERRUPTED}.get(record.status, 1)


def recorded(settings: Settings) -> Record:
    """The record of the run, which lies in `settings.results_dir` when this returns."""
    draft = Draft(settings, *store.new_id())
    begin = time.perf_counter()
    with terminated_as_interrupted():
        status, reason = ended(draft)
        draft.wall["total"] = time.perf_counter() - begin
        if not draft.main:
            return draft.record(status, reason)
        path = draft.save(status, reason)
        table = show(draft, status, reason, path)
        record = store.read(path)
        mirrored(draft).finish(record, path, table)
    return record


def ended(draft: Draft) -> tuple[str, str | None]:
    """Do the phases; how it ended, as (status, reason) of the record."""
    try:
        phases.prepare(draft)
        for phase in phases.PHASES:
            phase(draft)
        return "ok", None
    except Ended as end:
        return end.status, end.reason
    except KeyboardInterrupt:
        if draft.exam is None or not draft.data:
            raise  # nothing is known yet that a record could hold
        return "interrupted", "stopped by the user or the system"
    except UserError:
        raise
    except Exception as error:
        if not draft.data:
            raise
        if is_oom(error):
            return "oom", first_line(error)
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {first_line(error)}"


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, with a record. Only the main thread may listen to signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
