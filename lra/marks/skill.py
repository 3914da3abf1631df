"""The skill score: how much of what long-range structure can give has a model got?

    skill = (accuracy - floor) / (ceiling - floor)

floor    the best accuracy, on the same data, among the task's rules that are blind to long-range
         structure (`local_rules` of the task): the majority class everywhere, the first operator on
         ListOps, byte n-grams on Text, tf-idf on Retrieval, a linear model on pixels
ceiling  1: every label of these tasks follows from the input, up to errors of annotation

0 is what needs no long-range model, 1 is everything, below 0 is less than a bag of n-grams. Null
unless every one of the task's local rules has been scored on the same data: `python -m lra.floors`.
"""

from __future__ import annotations

from collections.abc import Iterable

CEILING = 1.0
CUT = -1.0  # a floor near the ceiling makes of a small difference many times what there is to gain: less is not told


def skill(accuracy: float | None, floor: float | None, ceiling: float = CEILING) -> float | None:
    """The score, or None where the accuracy or the floor is not known, or the floor is at the ceiling."""
    if accuracy is None or floor is None or floor >= ceiling:
        return None
    return (accuracy - floor) / (ceiling - floor)


def shown(value: float, digits: int = 2) -> str:
    """As people read it: "0.31", "<-1" of what is cut."""
    return f"<{CUT:g}" if value < CUT else f"{round(value, digits) + 0.0:.{digits}f}"  # of minus zero a zero


def best_floor(rules: Iterable[tuple[str, float]], local: Iterable[str]) -> tuple[str, float] | None:
    """(name, accuracy) of the best of the `local` rules; None if one of them has not been scored."""
    scored = dict(rules)
    wanted = list(local)
    if not wanted or any(name not in scored for name in wanted):
        return None
    return max(((name, scored[name]) for name in wanted), key=lambda pair: pair[1])
