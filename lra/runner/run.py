"""One run from start to record: its phases one after the other, and what becomes of whatever ends them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from lra.errors import UserError, code_of, first_line
from lra.machine.signals import heard
from lra.measure.gauges import is_oom
from lra.record import store
from lra.record.record import Record
from lra.runner import phases
from lra.runner.draft import Draft, Ended
from lra.runner.mirror import mirrored
from lra.runner.summary import show
from lra.settings.schema import Settings


def run(settings: Settings, tell: Callable[[dict[str, Any]], Any] | None = None) -> int:
    """Do what the settings say and leave one record. Returns the exit code.

    0 ok; 1 oom, diverged or failed; 130 interrupted. Raises UserError, before anything is
    recorded, for bad input. A failure of the code itself is a record too, and a traceback.
    """
    return code_of(recorded(settings, tell).status)


def recorded(settings: Settings, tell: Callable[[dict[str, Any]], Any] | None = None) -> Record:
    """The record of the run, which lies in `settings.results_dir` when this returns.

    tell: is handed what is known so far, as a record would hold it, whenever there is more, and in the end where
    the record lies; for whoever writes a record should this process die.
    """
    draft = Draft(settings, *store.new_id(), tell=tell)
    begin = time.perf_counter()
    with heard(interrupting(draft)):
        try:
            status, reason = ended(draft)
            draft.settled = True
            draft.wall["total"] = time.perf_counter() - begin
            if not draft.main:
                return draft.record(status, reason)
            path = draft.save(status, reason)
        finally:
            if draft.reserve is not None:
                draft.reserve.release()
        table = show(draft, status, reason, path)
        record = store.read(path)
        mirrored(draft).finish(record, path, table)
    return record


def ended(draft: Draft) -> tuple[str, str | None]:
    """Do the phases; how it ended, as (status, reason) of the record."""
    try:
        phases.prepare(draft)
        for phase in phases.PHASES:
            if draft.interrupted:
                raise KeyboardInterrupt  # something has swallowed the first
            draft.report(phase.__name__)
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


def interrupting(draft: Draft) -> Callable[..., None]:
    """What SIGTERM and Ctrl-C do: they end a run, with a record; but once there is a score, or a run is being ended,
    nothing that is sent keeps the record from being written."""

    def interrupt(*_: Any) -> None:
        if not (draft.interrupted or draft.scored or draft.settled):
            draft.interrupted = True
            raise KeyboardInterrupt

    return interrupt
