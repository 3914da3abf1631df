"""`minutes=…`: as many runs of a sweep as fit into a given time, most valuable first.

    python -m lra sweep=paper minutes=120

The order is that of the sweep's tasks, in each the reference model first, because the others' speed is
told relative to its; a second seed comes after everything has a first. Before a run starts its time is
estimated from its cost on this machine; one that cannot fit is skipped with a line, and a later, shorter
one may still be done. A run that is still going when the time is over is told to stop and leaves an
`interrupted` record. Records are all that is relied upon: after a kill at any moment the same command
does what is missing.
"""

from __future__ import annotations

import sys
import time

from lra.marks.runs import REFERENCE
from lra.settings.schema import Settings
from lra.sweep import estimate
from lra.sweep.job import Job, Skipped
from lra.sweep.once import Sweep


def within(sweep: Sweep, jobs: list[Job], end: float) -> None:
    """Do of the jobs what fits until `end`, on the monotonic clock."""
    sweep.all(by_value(jobs), lambda settings, label: allowed(settings, end, label))


def by_value(jobs: list[Job]) -> list[Job]:
    """The jobs by seed, then task, both in order of appearance, then the reference model first."""
    seeds, tasks = (list(dict.fromkeys(getattr(job, part) for job in jobs)) for part in ("seed", "task"))
    return sorted(jobs, key=lambda job: (seeds.index(job.seed), tasks.index(job.task), job.model != REFERENCE))


def allowed(settings: Settings, end: float, label: str) -> float:
    """Seconds until `end`, if the run is expected to take less; raises Skipped otherwise."""

    def left() -> float:
        return end - time.monotonic()

    def need(seconds: float, what: str = "it") -> None:
        if seconds > left():
            reason = f"{what} needs about {seconds / 60:.1f} minutes, {max(0.0, left()) / 60:.1f} are left"
            print(f"{label}: {reason}", file=sys.stderr, flush=True)
            raise Skipped(reason)

    need(estimate.STARTING, "starting alone")
    past = estimate.Past(settings)
    whole = [r.wall_seconds["total"] for r in past.same if r.status == "ok" and "total" in r.wall_seconds]
    if whole:
        need(whole[-1])
        return left()
    cost = past.cost() or estimate.measured(settings, past.machine, left())
    if cost["status"] != "ok":
        return left()  # whatever is wrong will be the run's own result, and soon
    seconds = estimate.STARTING + estimate.trained(settings, cost) / past.pace
    need(seconds, "training alone")  # asked before data are made only to learn how many there are
    seconds += estimate.scored(settings, cost, past.items() or estimate.counted(settings)) / past.pace
    need(seconds)
    print(f"{label}: about {seconds / 60:.1f} of {left() / 60:.1f} minutes", file=sys.stderr, flush=True)
    return left()
