"""`--dry-run`: what the same words would do, from settings and records alone. Nothing is trained, measured or fetched.

python -m lra task=listops model=performer --dry-run        python -m lra sweep=all --dry-run
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lra import console
from lra.data.places import described
from lra.errors import UserError
from lra.record import store
from lra.record.record import Record
from lra.runner.known import Shelf, known
from lra.settings import build, compose
from lra.settings.schema import Settings
from lra.sweep import estimate
from lra.sweep.job import Job
from lra.sweep.lengths import order
from lra.sweep.once import note
from lra.sweep.points import Bench

TELL = 5.0  # seconds from one word on how far it has come to the next
HEAD = ("run", "what", "steps", "parameters", "time", "step peak")


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it. what: "to do", "recorded" or "refused"; seconds and peak (bytes) are null where
    no record tells them."""

    what: str
    why: str | None = None
    steps: int | None = None
    minutes: float | None = None  # of a core or a device, in place of steps
    parameters: int | None = None
    seconds: float | None = None
    peak: int | None = None
    data: str | None = None  # of which task and how to get them, where they are not here

    @classmethod
    def of(cls, settings: Settings, shelf: Shelf, records: Sequence[Record] | None = None) -> Plan:
        """records: of the task, if they are at hand. Raises UserError for what the run would refuse."""
        exam = build.task(settings)
        net = build.outline(settings, exam)
        here = described(exam)
        past = estimate.Past(settings, records)
        cost = past.cost()
        told = {
            "steps": settings.train.steps_in_all,
            "minutes": settings.train.core_minutes if settings.train.steps is None else None,
            "parameters": None if net is None else sum(p.numel() for p in net.parameters()),
            "seconds": _seconds(settings, past, cost),
            "peak": None if cost is None else cost.get("step_peak_bytes"),
        }
        if here["found"] is None:  # what is recorded is known by their content
            return cls("to do", data=f"{settings.choices.task}: {here['how']}", **told)
        if (found := known(settings, shelf)) is not None:
            return cls("recorded", why=str(found[0]), **told)
        return cls("to do", **told)

    def line(self, label: str) -> list[str]:
        time = "-" if self.seconds is None else f"about {console.duration(self.seconds)}"
        steps = "-" if self.steps is None else f"{self.steps:,}"
        steps = steps if self.minutes is None else f"in {self.minutes:g} min"
        parameters = "-" if self.parameters is None else f"{self.parameters:,}"
        return [label, self.what, steps, parameters, time, console.size(self.peak)]


def _seconds(settings: Settings, past: estimate.Past, cost: Mapping[str, Any] | None) -> float | None:
    """As a sweep with `minutes` counts them, from records alone."""
    whole = [r.wall_seconds["total"] for r in past.same if r.status == "ok" and "total" in r.wall_seconds]
    if whole:
        return float(whole[-1])
    items = past.items()
    if cost is None or items is None:
        return None
    return estimate.STARTING + (estimate.trained(settings, cost) + estimate.scored(settings, cost, items)) / past.pace


def of_run(settings: Settings) -> str:
    """What `settings` would do, in a few lines. Raises UserError for what the run would refuse."""
    label = f"{settings.choices.model} on {settings.choices.task}, budget {settings.budget}, seed {settings.seed}"
    return told([(label, Plan.of(settings, Shelf()))], settings.results_dir)


def of_jobs(jobs: Iterable[Job], results: str) -> tuple[str, bool]:
    """The table of a sweep before it, and whether each of its runs can be done."""
    shelf, plans = Shelf(), []
    read: dict[tuple[str, str], list[Record]] = {}
    jobs, told_at = list(jobs), time.monotonic()
    for number, job in enumerate(jobs, 1):
        if time.monotonic() - told_at > TELL:
            told_at = time.monotonic()
            note(f"[{number}/{len(jobs)}] looked at")
        try:
            settings = job.settings or compose.config(job.words, job.config_dir)
            if (place := (settings.results_dir, job.task)) not in read:
                read[place] = [r for _, r in store.find(*place)]
            plans.append((job.label, Plan.of(settings, shelf, read[place])))
        except (UserError, ValueError) as error:
            plans.append((job.label, Plan("refused", str(error))))
    return told(plans, results), all(plan.what != "refused" for _, plan in plans)


def told(plans: list[tuple[str, Plan]], results: str) -> str:
    out = [console.table([plan.line(label) for label, plan in plans], HEAD), ""]
    out += [f"{label}: {plan.what}: {plan.why}" for label, plan in plans if plan.why]
    out += [f"data that are not here: {data}" for data in dict.fromkeys(plan.data for _, plan in plans) if data]
    ahead = [plan for _, plan in plans if plan.what == "to do"]
    timed = [plan.seconds for plan in ahead if plan.seconds is not None]
    counts = {what: sum(plan.what == what for _, plan in plans) for what in ("to do", "recorded", "refused")}
    words = f"{', '.join(f'{n} {what}' for what, n in counts.items() if n)}; results in {results}"
    if ahead:
        words += f"; about {console.duration(sum(timed))}" if timed else ""
        words += f", of {len(ahead) - len(timed)} the time is not known here" if len(timed) < len(ahead) else ""
    return "\n".join([*out, f"nothing was run: {words}"])


def of_points(models: Mapping[str, Settings]) -> str:
    """The lengths of a cost sweep before it."""
    settings = next(iter(models.values()))
    bench, lines = Bench(settings), {label: [0, 0] for label in sorted(models)}
    for block in order(dict(models), bench):
        for point in block:
            lines[point.label][bench.recorded(point) is not None] += 1
    rows = [[label, str(ahead), str(before)] for label, (ahead, before) in lines.items()]
    whole = sum(ahead for ahead, _ in lines.values())
    bound = f"at most {console.duration(whole * bench.cap)}" if whole else "no time"
    return "\n".join([
        console.table(rows, ["model", "points to measure", "recorded"]), "",
        f"nothing was run: {whole} points to measure, in {bound}; results in {settings.results_dir}",
    ])  # fmt: skip
