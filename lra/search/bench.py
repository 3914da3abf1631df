"""Points measured in blocks, each in a process of its own in which they take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lra.measure.cost import Limits
from lra.measure.session import Session, quiet
from lra.search.space import Point, Space
from lra.settings.typed import plain

BLOCK = 24  # points: few enough that a stop costs a minute, many enough that starting a process does not count
ROUNDS = 5
STEPS = 4  # of a turn, at most
HANGING = 600.0  # seconds that a block may take besides its timing: on a machine full of others' work a start is long
PATIENT = 20.0  # times the seconds of a point that building, warming and timing it may take


class Measuring(Session):
    """A child that measures a block; its config is what lra.search.child takes."""

    module = "lra.search.child"


def block(points: Sequence[Point], space: Space, seconds: float) -> dict[str, Any]:
    """{"points": a row a point, "machine", "dtype", "conditions"}. seconds: of timing each. Never raises for what the
    child meets: where the process is lost, each point is tried by itself, and the one that it is lost with has a row of
    why."""
    most = PATIENT * seconds / (2 * ROUNDS)
    configs = [{"settings": plain(space.settings(p.shape)), "length": p.length} for p in points]
    found = together(configs, seconds, most)
    if isinstance(found, dict):
        return found
    if len(points) == 1:
        return {"points": [{"status": found.status, "reason": found.reason}]}
    alone = [block([p], space, seconds) for p in points]
    whole = next((a for a in alone if "machine" in a), {})
    return whole | {"points": [row for a in alone for row in a["points"]]}


def together(configs: Sequence[dict[str, Any]], seconds: float, most: float) -> Any:
    """The child's answer, or a failure."""
    with Measuring({"points": configs, "most": most}, HANGING + PATIENT * seconds * len(configs)) as session:
        if session.prepare():
            with quiet(configs[0]["settings"]):
                for _ in range(ROUNDS):
                    if not session.turn(Limits(STEPS, seconds / ROUNDS, 1)):
                        break
        return session.lost() or session.answer


Measure = Callable[[Sequence[Point], Space, float], dict[str, Any]]


def blocks(points: Sequence[Point], size: int = BLOCK) -> Iterable[Sequence[Point]]:
    return (points[i : i + size] for i in range(0, len(points), size))
