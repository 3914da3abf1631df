"""How many steps the minutes of a race hold.

A core-minute is sixty seconds of one core's processor time, in training alone and over all learning rates; on a GPU a
minute of that. Clocks of shared machines drift by tens of percent within hours, and a model that is met by a slow one
would be given fewer steps. So what a step takes is told by the machine's pace (lra.machine.pace), and a minute is one
at the pace that the first race recorded on the machine has met: all models on it are given the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lra.errors import UserError
from lra.measure.cost import Drawn
from lra.record import store
from lra.settings.schema import Settings

KIND = {"cpu": "core", "cuda": "device"}  # of the minutes, by the device


def alone(settings: Settings) -> None:
    """UserError for what minutes cannot be counted of."""
    if settings.train.steps is not None:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("train.core_minutes: counted of one process alone; for several say train.steps=N")
    if not settings.measure.enabled:
        raise UserError("train.core_minutes: follow from what a step takes; measure.enabled=false does not tell")


def counted(settings: Settings, machine: Mapping[str, Any], drawn: Drawn) -> dict[str, Any]:
    """What a record says of its minutes.

    of             "core" or "device"
    asked          minutes
    step_seconds   of a step, on batches as they are drawn
    pace_of_steps  of the machine meanwhile, FLOPs per core-second; null on a GPU
    pace           at which minutes are counted
    steps          over all learning rates, that the minutes hold
    used           minutes at that pace that training has used, once it has
    """
    minutes, of = settings.train.core_minutes, KIND[machine["device"]]
    seconds = drawn.core_seconds if of == "core" else drawn.seconds
    pace = None if drawn.pace is None else known_pace(settings, machine) or drawn.pace
    steps = int(60 * minutes / seconds * (1.0 if pace is None else pace / drawn.pace))
    if steps < 1:
        raise UserError(f"train.core_minutes: {minutes:g} hold no step, which takes {seconds:.3g} {of}-seconds here")
    return {
        "of": of,
        "asked": minutes,
        "step_seconds": seconds,
        "pace_of_steps": drawn.pace,
        "pace": pace,
        "steps": steps,
    }


def known_pace(settings: Settings, machine: Mapping[str, Any]) -> float | None:
    """That of the first race on this machine with as many threads; null where there is none."""
    records = (sheet.record for sheet in store.sheets(settings.results_dir, lambda _: None))
    same = (r for r in records if all(r.machine.get(name) == machine[name] for name in ("name", "threads")))
    races = [r for r in same if r.minutes.get("pace")]
    return min(races, key=lambda r: r.run_id).minutes["pace"] if races else None


def used(minutes: Mapping[str, Any], spent: Any) -> float | None:
    """Minutes of training at the pace that they are counted at; spent: lra.train.fit.Spent."""
    if minutes["of"] == "device":
        return spent.seconds / 60 or None
    met = spent.pace or minutes["pace_of_steps"]
    return spent.core_seconds * met / minutes["pace"] / 60 or None
