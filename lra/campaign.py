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

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lra import report, sweep
from lra.record import PHASES

JOBS: list[sweep.Job] = []  # signed up by this process's sweep
BEGIN = time.monotonic()
STARTING = 30.0  # seconds of a run in which it neither trains nor scores: imports, data, measurement


def conduct(minutes: float) -> None:
    """Do of JOBS what fits into `minutes` from the start of this process."""
    end = BEGIN + 60 * minutes
    for number, job in enumerate(by_value(JOBS), 1):
        mark = f"[{number}/{len(JOBS)}]"

        def allow(cfg: Any, mark: str = mark, job: sweep.Job = job) -> float:
            return allowed(cfg, end, f"{mark} {job.label}")

        sweep.conduct(job, mark, allow)


def by_value(jobs: list[sweep.Job]) -> list[sweep.Job]:
    """The jobs by seed, then task, both in order of appearance, then the reference model first."""
    from lra.leaderboard import REFERENCE

    seeds, tasks = (list(dict.fromkeys(getattr(job, part) for job in jobs)) for part in ("seed", "task"))
    return sorted(jobs, key=lambda job: (seeds.index(job.seed), tasks.index(job.task), job.model != REFERENCE))


def allowed(cfg: Any, end: float, label: str) -> float:
    """Seconds until `end`, if the run is expected to take less; raises sweep.Skipped otherwise."""

    def left() -> float:
        return end - time.monotonic()

    def need(seconds: float, what: str = "it") -> None:
        if seconds > left():
            reason = f"{what} needs about {seconds / 60:.1f} minutes, {max(0.0, left()) / 60:.1f} are left"
            print(f"{label}: {reason}", file=sys.stderr, flush=True)
            raise sweep.Skipped(reason)

    need(STARTING, "starting alone")
    past = Past(cfg)
    whole = [r.wall_seconds["total"] for r in past.same if r.status == "ok" and "total" in r.wall_seconds]
    if whole:
        need(whole[-1])
        return left()
    cost = past.cost() or measured(cfg, past.machine, left())
    if cost["status"] != "ok":
        return left()  # whatever is wrong will be the run's own result, and soon
    seconds = STARTING + trained(cfg, cost) / past.pace
    need(seconds, "training alone")  # asked before data are made only to learn how many there are
    seconds += scored(cfg, cost, past.items() or counted(cfg)) / past.pace
    need(seconds)
    print(f"{label}: about {seconds / 60:.1f} of {left() / 60:.1f} minutes", file=sys.stderr, flush=True)
    return left()


def trained(cfg: Any, cost: Mapping[str, Any]) -> float:
    """Seconds of all training steps, each as long as the measured one."""
    return cfg.train.steps * cfg.train.batch_size / cost["train"]["examples_per_second"]


def scored(cfg: Any, cost: Mapping[str, Any], items: Mapping[str, int]) -> float:
    """Seconds of scoring the validation split every `train.eval_every` steps, and the test split once."""
    rounds = math.ceil(cfg.train.steps / cfg.train.eval_every)
    return (rounds * items["valid"] + items["test"]) / cost["inference"]["examples_per_second"]


class Past:
    """What records of this task say about the time of `cfg` on this machine."""

    def __init__(self, cfg: Any) -> None:
        from lra import compose, machine, record
        from lra.train import resolve_device, resolve_dtype

        self.machine = machine.machine(resolve_device(cfg))["name"]
        wanted = record.config_hash(compose.plain(cfg))
        here = [
            r
            for _, r in record.find(cfg.results_dir, cfg.choices.task)
            if r.kind == "model" and r.machine.get("name") == self.machine and r.dtype == resolve_dtype(cfg)
        ]
        self.same = [r for r in here if r.config_hash == wanted]
        self.task = [r for r in here if r.config["task"] == record.portable(compose.plain(cfg))["task"]]
        # Real batches are shorter than the measured one, but wait for their data: which wins is seen on the way.
        paces = [
            r.training["examples_per_second"] / r.cost["train"]["examples_per_second"]
            for r in self.task
            if r.training.get("examples_per_second") and r.cost.get("status") == "ok"
        ]
        self.pace = statistics.median(paces) if paces else 1.0

    def cost(self) -> Mapping[str, Any] | None:
        """The newest measurement of this very configuration."""
        return next((r.cost for r in reversed(self.same) if r.cost.get("status") == "ok"), None)

    def items(self) -> Mapping[str, int] | None:
        """Items of each split."""
        return next((r.data["items"] for r in reversed(self.task) if "items" in r.data), None)


def counted(cfg: Any) -> dict[str, int]:
    """Items of the splits that are scored; makes or fetches the data, as the run would."""
    from lra import compose

    exam = compose.task(cfg)
    return {name: len(exam.split(name)) for name in ("valid", "test")}


def measured(cfg: Any, machine: str, timeout: float) -> Mapping[str, Any]:
    """A quick measurement, kept in the output folder so that a skipped run is measured once only."""
    from lra import compose, record
    from lra.measure import attempt
    from lra.train import resolve_dtype

    config = compose.plain(cfg)
    key = f"{record.config_hash(config)} {resolve_dtype(cfg)} {machine}"
    path = Path(cfg.output_dir) / "estimates.json"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):  # none yet, or one that is not whole
        known = {}
    if key not in known:
        config["measure"] = config["measure"] | {"steps": 5, "seconds": 3.0}
        cost = attempt(config, max(1.0, timeout))
        if cost["status"] != "ok":
            return cost
        known[key] = {part: {"examples_per_second": cost[part]["examples_per_second"]} for part in PHASES}
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        draft.write_text(json.dumps(known, indent=1))
        draft.rename(path)
    return known[key] | {"status": "ok"}


def beside_published(results: str | Path) -> str:
    """Our cells of `budget=paper` beside those of the first table and of later ones, as text."""
    from lra import ledger
    from lra.leaderboard import cells, load

    ours = cells(load(results))
    return comparison(ours, ledger.load(ledger.place(results)))


def comparison(ours: Any, published: Any) -> str:
    """A line for each of our cells of the unchanged exams: ours, that of the first table, the others' range.

    The published ones differ in sizes, data, seeds and what they select on: the ledger says how.
    """
    from lra.ledger import FIRST_TABLE

    mine = ours[(ours.budget == "paper") & (ours.row == ours.task) & ours.accuracy.notna()]
    if mine.empty:
        return "no run of budget=paper on a whole exam has ended yet: nothing to compare with published cells"
    lines = []
    for cell in mine.sort_values(["task", "model", "machine"]).itertuples():
        here = published[(published.kind == "accuracy") & (published.task == cell.task) & published.value.notna()]
        here = here[here.ours == cell.model]
        first = here[here.table.str.startswith(FIRST_TABLE)].value
        later = here[~here.table.str.startswith(FIRST_TABLE)].value
        others = f"{later.min():.2f}" + (f" to {later.max():.2f}" if len(later) > 1 else "") if len(later) else "-"
        lines.append(
            [
                f"{cell.task} {cell.model}",
                report.percent(cell.accuracy),
                f"{100 * cell.low:.1f} to {100 * cell.high:.1f}",
                str(cell.seeds),
                f"{first.iloc[0]:.2f}" if len(first) else "-",
                f"{100 * cell.accuracy - first.iloc[0]:+.2f}" if len(first) else "-",
                others,
            ]
        )
    header = ["budget=paper", "ours", "95 %", "seeds", "2020", "less that", "later tables"]
    return "\n" + report.table(lines, header)
