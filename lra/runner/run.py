"""One run from start to record: its phases one after the other, and what becomes of whatever ends them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from lra.console import say
from lra.errors import INTERRUPTED, UserError, code_of, first_line
from lra.machine.signals import heard
from lra.measure.gauges import is_oom
from lra.record import store
from lra.record.claim import Held, Overtaken
from lra.record.record import Record
from lra.record.unfinished import about, states
from lra.runner import phases
from lra.runner.draft import ALONE, Draft, Ended, Terms
from lra.runner.known import Known
from lra.runner.mirror import mirrored
from lra.runner.summary import show
from lra.settings.schema import Settings

AGAIN = 2.0  # seconds after which a signal is another one
Tell = Callable[[dict[str, Any]], Any]


def run(settings: Settings, tell: Tell | None = None, terms: Terms = ALONE) -> int:
    """Do what the settings say and leave one record. Returns the exit code.

    0 ok; 1 oom, diverged or failed; 130 interrupted, which leaves no record but what the same command goes on from.
    Raises UserError, before anything is recorded, for bad input. A failure of the code itself is a record too, and
    a traceback.
    """
    record = recorded(settings, tell, terms)
    return INTERRUPTED if record is None else code_of(record.status)


def recorded(settings: Settings, tell: Tell | None = None, terms: Terms = ALONE) -> Record | None:
    """The record of the run, which lies in `settings.results_dir` when this returns; null if it was interrupted, or
    if another process has taken it up meanwhile.

    tell: is handed what is known so far, as a record would hold it, whenever there is more, and in the end where
    the record lies; for whoever writes a record should this process die.
    """
    draft = Draft(settings, *store.new_id(), tell=tell, terms=terms)
    with heard(interrupting(draft), keeping(draft)):
        try:
            status, reason = ended(draft)
            draft.settled = True
            if status == "interrupted":
                return stopped(draft)
            draft.wall["total"] = draft.seconds
            if not draft.main:
                return draft.record(status, reason)
            path = draft.save(status, reason)
            if status == "failed" and draft.machine["processes"] > 1:
                draft.claim.mark_recorded()  # it may be that another of them was killed
            else:
                draft.claim.clear()
        except Overtaken as error:
            say(f"{error}, which leaves its record; what was done here is dropped")
            draft.report_held(draft.claim.follower())
            return None
        except Known as found:
            draft.report_known(found)
            return found.record
        except Held as held:
            draft.report_held(held)
            raise UserError(f"{settings.choices.task} {settings.choices.model} s{settings.seed}: {held}") from held
        finally:
            draft.let_go()
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
            if draft.claim is not None:
                draft.claim.check()
        return "ok", None
    except Ended as end:
        return end.status, end.reason
    except KeyboardInterrupt:
        if draft.exam is None or not draft.data:
            raise  # nothing is known yet that a record could hold
        return "interrupted", None
    except (UserError, Overtaken, Held, Known):
        raise
    except Exception as error:
        if not draft.data:
            raise
        if is_oom(error):
            return "oom", first_line(error)
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {first_line(error)}"


def interrupting(draft: Draft) -> Callable[..., None]:
    """What SIGTERM and Ctrl-C do: they end a run, at the end of a step if it is in one, or at once if they come again
    later; but once there is a score, or a run is being ended, nothing keeps the record from being written."""
    first = [0.0]

    def interrupt(*_: Any) -> None:
        if draft.scored or draft.settled or (draft.interrupted and not draft.holding):
            return
        # A cluster tells the run and its keeper at once, who tells the run once more: that is one signal.
        again = draft.interrupted and time.monotonic() - first[0] > AGAIN
        if not draft.interrupted:
            first[0] = time.monotonic()
        draft.interrupted = True
        if again or not draft.holding:
            draft.holding = False
            raise KeyboardInterrupt

    return interrupt


def keeping(draft: Draft) -> Callable[..., None]:
    """What SIGUSR1 and SIGUSR2 do, which warn of an end: the state is kept after the next step, and the run goes on."""

    def keep(*_: Any) -> None:
        draft.asked = True

    return keep


def stopped(draft: Draft) -> None:
    """Say what an interruption has left: a state that the same command goes on from, and no record."""
    if not draft.main:
        return
    newest = next(iter(states(draft.claim.folder)), None)
    if newest is None:
        say("interrupted before there was a step to go on from")
        return
    step = about(newest)["facts"].get("steps_done")
    say(f"interrupted; the same command goes on from step {step} of {draft.steps_in_all}")
