"""How long a run will take here, from its cost and from records of the like."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.measure.alone import attempt
from lra.record import store
from lra.record.place import published
from lra.record.record import Record
from lra.settings import build, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain

MANY = 10_000  # steps, whose shares are those of any number
STARTING = 30.0  # seconds of a run in which it neither trains nor scores: imports, data, measurement


def trained(settings: Settings, cost: Mapping[str, Any]) -> float:
    """Seconds of all training steps, each as long as the measured one; or of the minutes that are asked for."""
    if settings.train.steps is None:
        cores = 1 if resolve_device(settings.device) == "cuda" else settings.threads or os.cpu_count() or 1
        return 60 * settings.train.core_minutes / cores
    return settings.train.steps_in_all * settings.train.batch_size / cost["train"]["examples_per_second"]


def scored(settings: Settings, cost: Mapping[str, Any], items: Mapping[str, int]) -> float:
    """Seconds of scoring the validation split every `train.eval_every` steps, and the test split once."""
    train = settings.train.of_steps(settings.train.steps if settings.train.steps is not None else MANY)
    rounds = math.ceil(train.steps_in_all / train.eval_every)
    return (rounds * items["valid"] + items["test"]) / cost["inference"]["examples_per_second"]


class Past:
    """What records of this task say about the time of `settings` on this machine."""

    def __init__(self, settings: Settings, records: Sequence[Record] | None = None) -> None:
        """records: of the task, where whoever asks of many runs has them at hand."""
        if records is None:
            records = [r for _, r in store.find(settings.results_dir, settings.choices.task)]
        device = resolve_device(settings.device)
        dtype = resolve_dtype(settings.dtype, device)
        self.machine = facts.machine(device)["name"]
        wanted = identity.identity(plain(settings))
        here = [r for r in records if r.kind == "model" and r.machine.get("name") == self.machine and r.dtype == dtype]
        self.same = [r for r in here if identity.identity(r.config) == wanted]
        task = identity.essential(plain(settings)["task"], "task.")
        self.task = [r for r in here if identity.essential(r.config.get("task"), "task.") == task]
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


def counted(settings: Settings) -> dict[str, int]:
    """Items of the splits that are scored; makes or fetches the data, as the run would."""

    exam = build.task(settings)
    return {name: len(exam.split(name)) for name in ("valid", "test")}


def measured(settings: Settings, machine: str, timeout: float) -> Mapping[str, Any]:
    """A quick measurement, kept in the output folder so that a skipped run is measured once only."""

    config = plain(settings)
    key = f"{identity.identity(config)} {resolve_dtype(settings.dtype, resolve_device(settings.device))} {machine}"
    path = Path(settings.output_dir) / "estimates.json"
    try:
        known = json.loads(path.read_text())
        known = known if isinstance(known, dict) else {}
    except (OSError, ValueError):  # none yet, or one that is not whole
        known = {}
    if key not in known:
        config["measure"] = config["measure"] | {"steps": 5, "seconds": 3.0}
        cost = attempt(config, max(1.0, timeout))
        if not cost.ok:
            return cost.asdict()
        rates = {"train": cost.train, "inference": cost.inference}
        known[key] = {phase: {"examples_per_second": r.examples_per_second} for phase, r in rates.items()}
        with suppress(UserError):  # it is found again, in a minute, by whoever asks next
            published("output_dir", path.parent, {path.name: json.dumps(known, indent=1).encode()})
    return known[key] | {"status": "ok"}
