"""A sweep on a cluster: its runs are handed to an engine, and a folder is all that the two share.

Whatever the engine says, a run is done when its record is there. One whose job has ended without is handed over again
if it has come further, for it goes on from its state; with twice the time if it was the time that ended it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lra.errors import USAGE, UserError
from lra.record.unfinished import about, states
from lra.runner.known import known
from lra.settings import compose
from lra.settings.schema import Settings
from lra.sweep.job import Job, Row
from lra.sweep.once import Sweep, note, place_of

TRIES = 3  # that a run gets without a step more
CANCELLED, OVER, DONE = "CANCELLED", "TIMEOUT", "COMPLETED"  # as Slurm says it


@dataclass
class Ticket:
    """A run in the hands of an engine. name: by which that knows it; how: it ended, null while it has not."""

    name: str
    job: Job
    minutes: float
    log: str = ""
    how: str | None = None
    code: int | None = None  # exit code of the run, where the engine knows it
    handle: Any = field(default=None, repr=False)


class Engine(Protocol):
    """Slurm, Ray: see configs/launcher."""

    pause: float  # seconds between two looks
    minutes: float | None  # of a run, null: worked out from records

    def words(self, job: Job) -> tuple[str, ...]:
        """Those of the run as it will be done there."""

    def submit(self, runs: Sequence[tuple[Job, float]]) -> list[Ticket]:
        """Hand over runs with their minutes. Raises UserError if the engine takes none."""

    def look(self, tickets: Sequence[Ticket]) -> None:
        """Set `how` of those that have ended."""

    def leave(self, tickets: Sequence[Ticket]) -> str:
        """What becomes of those that have not, in words, now that nobody watches them."""


@dataclass
class Wanted:
    """One run of the sweep and how it stands."""

    label: str
    job: Job
    settings: Settings
    minutes: float
    ticket: Ticket | None = None
    tries: int = 0
    step: int = 0

    def progress(self) -> bool:
        """Has it come further since the last look?"""
        newest = next(iter(states(place_of(self.settings))), None)
        step = about(newest)["facts"].get("steps_done", 0) if newest is not None else 0
        further, self.step = step > self.step, max(step, self.step)
        return further


def spread(sweep: Sweep, engine: Engine, jobs: list[Job]) -> None:
    """Every job's row, from its record or from having it done there."""
    wanted: dict[int, Wanted] = {}
    for number, job in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {job.label}"
        try:
            job = Job(engine.words(job), job.config_dir, job.task, job.model, job.seed, job.label)
            settings = compose.config(job.words, job.config_dir)
            wanted[number] = Wanted(label, job, settings, engine.minutes or expected(sweep, settings))
        except (UserError, ValueError) as error:
            sweep.found[number] = Row(job, "refused", str(error))
            note(f"{label}: {error}")
    try:
        while wanted:
            for number in _settled(sweep, wanted):
                del wanted[number]
            _submit(sweep, engine, wanted)
            if wanted:
                time.sleep(engine.pause)
                engine.look([w.ticket for w in wanted.values() if w.ticket is not None])
    except BaseException:
        for number, w in wanted.items():
            sweep.found[number] = Row(w.job, "interrupted", "goes on when the same is typed again")
        open_ = [w.ticket for w in wanted.values() if w.ticket is not None and w.ticket.how is None]
        if open_:
            note(engine.leave(open_))
        raise


def expected(sweep: Sweep, settings: Settings) -> float:
    """Minutes that a run is given: three times what the longest of its kind has taken, an hour where none is known."""
    from lra.record import store

    entries = sweep.shelf.entries(settings)
    taken = [store.read(e.path).wall_seconds.get("total", 0.0) for e in entries[-5:] if e.status == "ok"]
    return max(10.0, 3 * max(taken) / 60) if taken else 60.0


def _settled(sweep: Sweep, wanted: dict[int, Wanted]) -> list[int]:
    """The numbers of those that have their row now."""
    out = []
    for number, w in wanted.items():
        row = Row(w.job, "failed")
        found = known(w.settings, sweep.shelf)
        if found is not None:
            row.take(found[1], known=w.tries == 0)
        elif w.ticket is None or w.ticket.how is None or not _over(sweep, w, row):
            continue
        sweep.found[number] = row
        if sweep.overview is not None:
            sweep.overview.end(number, row)
        note(f"{w.label}: {row.status}" + (f": {row.reason}" if row.status != "ok" else ""))
        out.append(number)
    return out


def _over(sweep: Sweep, w: Wanted, row: Row) -> bool:
    """A job has ended without a record that counts. False if it is handed over again, or somebody else does it."""
    ticket, w.ticket = w.ticket, None
    further = w.progress()
    if sweep.watcher.look(place_of(w.settings))[0] is not None:
        return False
    if ticket.how == CANCELLED:
        row.status, row.reason = "interrupted", f"job {ticket.name} was cancelled; goes on when the same is typed again"
        return True
    failed = sweep.newest(w.settings)
    if failed is not None and failed.status == "failed" and failed.signal is None:
        row.take(failed, known=False)  # made by edited code, so that it is not known to the next sweep
        return True
    said = last_word(ticket.log)
    # Slurm keeps no code of a run's, and a pickle in a shared folder is nothing to trust.
    if ticket.code == USAGE or (ticket.code is None and ticket.how == DONE and said not in (None, "interrupted")):
        row.status, row.reason = "refused", said or f"see {ticket.log}"
        return True
    if ticket.how == OVER:
        w.minutes *= 2
    w.tries = 1 if further else w.tries
    if w.tries < TRIES:
        return False
    row.reason = f"job {ticket.name} ended ({ticket.how}) without a record, {TRIES} times; its log: {ticket.log}"
    return True


def last_word(log: str) -> str | None:
    """The line in which a run has said why it was refused."""
    try:
        lines = Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("lra: ") for line in reversed(lines) if line.startswith("lra: ")), None)


def _submit(sweep: Sweep, engine: Engine, wanted: dict[int, Wanted]) -> None:
    """Hand over what nobody does."""
    free = {
        number: w
        for number, w in wanted.items()
        if w.ticket is None and sweep.watcher.look(place_of(w.settings))[0] is None
    }
    if not free:
        return
    tickets = engine.submit([(w.job, w.minutes) for w in free.values()])
    for (number, w), ticket in zip(free.items(), tickets, strict=True):
        w.ticket, w.tries = ticket, w.tries + 1
        if sweep.overview is not None:
            sweep.overview.begin(number)
        note(f"{w.label}: job {ticket.name}")
