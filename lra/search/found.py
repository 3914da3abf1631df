"""From measurements to the shapes that are worth training: what is predicted, searched, and measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from lra.search.asked import Asked, Bounds
from lra.search.counts import counts, deeper
from lra.search.evolve import evolved
from lra.search.predict import fitted, parts_of_bytes, table_of
from lra.search.scored import TRIES, chances, tried
from lra.search.space import Shape, Space, exam_at


@dataclass(frozen=True)
class Cost:
    """Of an inference step: seconds and bytes."""

    latency: float
    memory: float

    def of(self, bounds: Bounds) -> np.ndarray:
        """(2,): cost over bound, 0 where there is none; at most 1 is within."""
        pairs = ((self.latency, bounds.latency), (self.memory, bounds.memory))
        return np.array([0.0 if bound is None else cost / bound for cost, bound in pairs])


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
        row = {key: [value] for key, value in {**shape._asdict(), "length": self.length, **made}.items()}
        cost = Cost(float(self.latency(row)[0]), float(self.peak(row)[0]) + made["resident"])
        return Candidate(shape, made["stack_parameters"], cost)


@dataclass
class Search:
    """surprises: (M, 2) latency and memory, measured over predicted, of shapes that were held out. measure: has shapes
    measured at the task's length and kept; what they cost, null of one that could not be measured. costs: of those
    known before."""

    what: Asked
    predicted: Callable[[Shape], Candidate | None]
    surprises: np.ndarray
    measure: Callable[[Sequence[Shape]], Mapping[Shape, Cost | None]]
    costs: dict[Shape, Cost | None] = field(default_factory=dict)
    seen: dict[Shape, Candidate | None] = field(default_factory=dict)

    def candidate(self, shape: Shape) -> Candidate | None:
        if shape not in self.seen:
            self.seen[shape] = self.predicted(shape)
        return self.seen[shape]

    def chance(self, shape: Shape) -> float:
        """That a shape is within the bounds; of one that was measured, 0 or 1."""
        if shape in self.costs:
            cost = self.costs[shape]
            return float(cost is not None and bool(np.all(cost.of(self.what.bounds) <= 1)))
        found = self.candidate(shape)
        if found is None:
            return 0.0
        return float(chances(found.predicted.of(self.what.bounds)[None], self.surprises, np.ones(2))[0])

    def worth(self, shape: Shape) -> float:
        """Parameters of the layers times the chance of being within the bounds; where there is none, how far a shape
        is from them, below 0."""
        found = self.candidate(shape)
        if found is None or self.costs.get(shape, found) is None:
            return float("-inf")
        return found.parameters * self.chance(shape) or -float(found.predicted.of(self.what.bounds).max())

    def ranking(self, model: str) -> list[Shape]:
        """Of a mixer, those that may be within the bounds."""
        space = self.what.space
        begin = [s.sizes for s in self.costs if s.model == model and space.fits(s.sizes)]
        found = evolved(
            (space.depth, space.dim, space.heads), space.fits, lambda s: self.worth(Shape(model, *s)), 0, begin
        )
        return [Shape(model, *sizes) for sizes, worth in found if worth > 0]

    def done(self) -> dict[str, Candidate | None]:
        """Of each mixer the largest shape that was measured to be within the bounds, after up to TRIES of which that
        was hoped; null where there is none."""
        ranked = {model: self.ranking(model) for model in self.what.space.models}
        for _ in range(TRIES):
            asked = [shape for model in ranked if (shape := self.next(model, ranked[model])) is not None]
            if not asked:
                break
            self.costs |= self.measure(asked)
        return {model: self.best(model) for model in ranked}

    def next(self, model: str, ranked: Sequence[Shape]) -> Shape | None:
        """Of one that was measured nothing is hoped: it is no more than the best, or has no chance."""
        best = self.best(model)
        worth = np.array([self.candidate(s).parameters for s in ranked], float)
        i = tried(worth, np.array([self.chance(s) for s in ranked]), best.parameters if best else 0.0)
        return None if i is None else ranked[i]

    def best(self, model: str) -> Candidate | None:
        """Of a mixer the largest of those that were measured within the bounds."""
        good = [c for s in self.costs if s.model == model and self.chance(s) and (c := self.candidate(s))]
        if not good:
            return None
        found = max(good, key=lambda c: (c.parameters, c.shape))
        return replace(found, measured=self.costs[found.shape])


def costs(rows: Sequence[Mapping[str, Any]], pace: float | None) -> dict[Shape, Cost | None]:
    """Of what was measured; null of what could not be."""
    good = {r.key: Cost(float(r.latency), float(r.memory)) for r in table_of(rows, pace).itertuples()}
    return {Shape(*(r[k] for k in Shape._fields)): good.get(r["key"]) for r in rows}
