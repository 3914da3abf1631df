"""From measurements to the shapes that are worth training: what is predicted, searched, and measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lra.search.asked import Asked, Bounds
from lra.search.counts import counts, deeper
from lra.search.evolve import evolved
from lra.search.frame import frame, shape
from lra.search.predict import fitted, parts_of_bytes
from lra.search.scored import MARGIN, TRIES
from lra.search.space import Point, Shape, Space, exam_at


@dataclass(frozen=True)
class Cost:
    """Of an inference step: seconds and bytes."""

    latency: float
    memory: float

    def over(self, bounds: Bounds) -> float:
        """The larger of cost over bound; at most 1 is within."""
        pairs = ((self.latency, bounds.latency), (self.memory, bounds.memory))
        return max(cost / bound for cost, bound in pairs if bound is not None)


@dataclass(frozen=True)
class Candidate:
    """measured: null before it was. parameters: of the layers."""

    shape: Shape
    parameters: int
    predicted: Cost
    measured: Cost | None = None


class Counted:
    """What shapes are made of at one length, each width and number of heads counted for one layer and for two."""

    def __init__(self, space: Space, length: int) -> None:
        self.space, self.length = space, length
        self.known: dict[tuple[str, int, int], tuple[dict[str, int], dict[str, int]] | None] = {}

    def __call__(self, shape: Shape) -> dict[str, int] | None:
        """null where it cannot be counted."""
        key = (shape.model, shape.dim, shape.heads)
        if key not in self.known:
            one, two = (self.of(shape._replace(depth=depth)) for depth in (1, 2))
            self.known[key] = None if None in (*one.values(), *two.values()) else (one, two)
        pair = self.known[key]
        return None if pair is None else deeper(*pair, shape.depth)

    def of(self, shape: Shape) -> dict[str, Any]:
        settings = self.space.settings(shape)
        return counts(settings, exam_at(settings, self.length))


class Predicted:
    """What a shape costs at the length of the task, by what was measured."""

    def __init__(self, table: pd.DataFrame, space: Space, length: int) -> None:
        self.latency = fitted(table, table.latency.to_numpy(float))
        self.peak = fitted(table, table.peak_bytes.to_numpy(float), parts_of_bytes)
        self.counted, self.length = Counted(space, length), length

    def __call__(self, shape: Shape) -> Candidate | None:
        made = self.counted(shape)
        if made is None:
            return None
        row = pd.DataFrame([{**shape._asdict(), "length": self.length, **made}])
        cost = Cost(float(self.latency(row)[0]), float(self.peak(row)[0]) + made["resident"])
        return Candidate(shape, made["stack_parameters"], cost)


@dataclass
class Search:
    """measure: has points measured and kept; all rows that there are then. costs: of shapes at the task's length, null
    of one that could not be measured."""

    what: Asked
    predicted: Callable[[Shape], Candidate | None]
    measure: Callable[[Sequence[Point]], Sequence[Mapping[str, Any]]]
    costs: dict[Shape, Cost | None] = field(default_factory=dict)
    seen: dict[Shape, Candidate] = field(default_factory=dict)

    def candidate(self, shape: Shape) -> Candidate | None:
        """Predicted, and measured where it was."""
        if shape not in self.seen:
            found = self.predicted(shape)
            if found is None:
                return None
            self.seen[shape] = found
        found = self.seen[shape]
        return Candidate(found.shape, found.parameters, found.predicted, self.costs.get(shape))

    def worth(self, shape: Shape) -> float:
        """Parameters of the layers of a shape within the bounds, by measurement where there is one, else by a
        prediction with its margin; of another one how far it is from them, below 0."""
        found = self.candidate(shape)
        if found is None or (shape in self.costs and self.costs[shape] is None):
            return float("-inf")
        over = found.predicted.over(self.what.bounds) / MARGIN
        if found.measured is not None:
            over = found.measured.over(self.what.bounds)
        return float(found.parameters) if over <= 1 else -over

    def ranking(self, model: str) -> list[Shape]:
        """Of a mixer, those that seem to be within the bounds, the largest first."""
        space = self.what.space
        begin = [s.sizes for s in self.costs if s.model == model and space.fits(s.sizes)]
        found = evolved(
            (space.depth, space.dim, space.heads), space.fits, lambda s: self.worth(Shape(model, *s)), 0, begin
        )
        return [Shape(model, *sizes) for sizes, worth in found if worth > 0]

    def done(self) -> dict[str, Candidate | None]:
        """Of each mixer the largest shape that was measured to be within the bounds, after up to TRIES that seemed to
        be; null where there is none."""
        out: dict[str, Candidate | None] = dict.fromkeys(self.what.space.models)
        ranked = {model: self.ranking(model) for model in out}
        for left in reversed(range(TRIES + 1)):
            asked = []
            for model in [m for m, found in out.items() if found is None]:
                # What was measured since may have been too much.
                good = sorted((s for s in ranked[model] if self.worth(s) > 0), key=lambda s: (-self.worth(s), s))
                best = next(iter(good), None)
                if best is not None and self.costs.get(best) is not None:
                    out[model] = self.candidate(best)
                elif best is not None:
                    asked.append(best)
            if not asked or not left:
                break
            points = [Point(s, self.what.lengths[-1]) for s in asked]
            self.costs = dict.fromkeys(asked) | costs(self.measure(points), self.what.lengths[-1])
        return {model: found or self.measured(model) for model, found in out.items()}

    def measured(self, model: str) -> Candidate | None:
        """Of a mixer the largest of those that were measured within the bounds."""
        good = [s for s, cost in self.costs.items() if s.model == model and cost is not None and self.worth(s) > 0]
        return self.candidate(max(good, key=lambda s: (self.worth(s), s))) if good else None


def costs(rows: Sequence[Mapping[str, Any]], length: int) -> dict[Shape, Cost | None]:
    """Of what was measured at that length; null of what could not be."""
    failed = {
        Shape(*(r[k] for k in Shape._fields)): None for r in rows if r["length"] == length and r["status"] != "ok"
    }
    table = frame(rows)
    return failed | {
        shape(r): Cost(float(r.latency), float(r.memory)) for r in table[table.length == length].itertuples()
    }
