"""One measurement in a process of its own, made again if the machine disturbed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lra.measure.cost import Cost, Limits
from lra.measure.session import Session, quiet

DRAWN = 10_000  # steps on drawn batches, of which there are as many as there is time for: they differ as lengths do


def measure(config: Mapping[str, Any], timeout: float = 3600.0, drawn: bool = False) -> Cost:
    """Measure `config` (plain, resolved) in a fresh child. Never raises for what the child meets. drawn: steps on
    batches as training draws them too, for which the child reads the data.

    The status is "timeout" as soon as the warm-up shows that `timeout` seconds will not do. One that the
    machine disturbed is repeated, and the less disturbed of the two kept.
    """
    first = attempt(config, timeout, drawn)
    return calmer([first], [attempt(config, timeout, drawn)])[0] if is_disturbed(first) else first


def is_disturbed(found: Cost) -> bool:
    return found.ok and found.disturbed


def calmer(first: Sequence[Cost], second: Sequence[Cost]) -> list[Cost]:
    """Of measurements made together and their repetition, those to keep."""

    def trouble(found: Sequence[Cost]) -> tuple[int, int, float]:
        ok = [r for r in found if r.ok]
        others = sum(r.conditions["other_cores"] or 0.0 for r in ok)
        return len(found) - len(ok), sum(r.disturbed for r in ok), others

    return [r.again() if r.ok else r for r in min(first, second, key=trouble)]


def attempt(config: Mapping[str, Any], timeout: float, drawn: bool = False) -> Cost:
    """One measurement in a fresh child, all in one turn, but for a turn of drawn batches."""
    with Session(config, timeout) as session:
        if session.prepare():
            with quiet(config):
                measure = config["measure"]
                if session.turn(Limits(measure["steps"], measure["seconds"])) and drawn:
                    session.turn(Limits(DRAWN, measure["seconds"], drawn=True))
        return session.finish()
