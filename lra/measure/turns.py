"""Measuring processes that take turns.

The clock and the memory of a shared machine drift by tens of percent within minutes. Programs that
are measured one after the other differ by that; programs that take turns meet all of it alike. Each
lives in a process of its own, warm and blocked while another has its turn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from lra.measure.alone import attempt, calmer, is_disturbed
from lra.measure.cost import LEAST_STEPS, Cost, Limits
from lra.measure.session import Session, quiet

SECONDS = 0.3  # of a turn: long next to what it costs to change, short next to the drift
STEPS = 4  # of a turn, at most


def together(configs: Sequence[Mapping[str, Any]], timeout: float, seed: int) -> list[Cost]:
    """`lra.measure.alone.measure` of several configurations, each in a fresh child, that take turns.

    The turns come in rounds, each in another order: as many as it takes for `measure.steps` steps of
    each, or as begin within `measure.seconds` for each phase of each child, but LEAST_STEPS. If one was
    disturbed all take turns once more, since only what was measured together compares, and the calmer of
    the two is kept. What ran out of memory may have lacked what the others held, and is measured again alone.
    """
    found = rounds(configs, timeout, seed)
    if any(map(is_disturbed, found)):
        ok = [i for i, r in enumerate(found) if r.ok]
        again = rounds([configs[i] for i in ok], timeout, seed + 1)
        for i, kept in zip(ok, calmer([found[i] for i in ok], again), strict=True):
            found[i] = kept
    if len(configs) > 1:
        for i, r in enumerate(found):
            if r.status == "oom":
                found[i] = attempt(configs[i], timeout)
    return found


def rounds(configs: Sequence[Mapping[str, Any]], timeout: float, seed: int) -> list[Cost]:
    """One measurement of each configuration."""
    draw = random.Random(seed)
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(config, timeout)) for config in configs]
        alive = [s for s in sessions if s.prepare()]
        limits = [c["measure"] for c in configs]
        steps, seconds = max((m["steps"] for m in limits), default=0), 2 * sum(m["seconds"] for m in limits)
        begin, done = time.monotonic(), 0
        # A turn has at least one step, so that LEAST_STEPS rounds are enough whatever a step takes.
        if alive:
            stack.enter_context(quiet(configs[0]))
        while alive and (done < LEAST_STEPS or (done * STEPS < steps and time.monotonic() - begin < seconds)):
            draw.shuffle(alive)
            alive = [s for s in alive if s.turn(Limits(STEPS, SECONDS, 1))]
            done += 1
            if done >= LEAST_STEPS:  # else the next turn would be its end
                alive = [s for s in alive if s.spent + 2 * s.longest < timeout]
        return [s.finish() for s in sessions]
