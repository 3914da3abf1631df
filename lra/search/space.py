"""The shapes that are searched, and the few of them that are measured first."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lra.errors import UserError
from lra.settings import build, compose
from lra.settings.schema import Settings

NARROWEST = 8  # channels of a head
SIZES = ("depth", "dim", "heads")
OF_SIZE = (*SIZES, "qkv_dim", "mlp_dim")  # what a model's own settings have of them


class Shape(NamedTuple):
    """A model with its sizes."""

    model: str
    depth: int
    dim: int
    heads: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.depth, self.dim, self.heads


class Point(NamedTuple):
    """A shape at a length in tokens."""

    shape: Shape
    length: int

    def __str__(self) -> str:
        s = self.shape
        return f"{s.model}, {s.depth} layers, {s.dim} wide, {s.heads} heads, {self.length:,} tokens"


@dataclass(frozen=True)
class Space:
    """models: by name, as the words of a run have them. mlp: width of the feed-forward layer over that of the model."""

    models: Mapping[str, Settings]
    depth: tuple[int, ...]
    dim: tuple[int, ...]
    heads: tuple[int, ...]
    mlp: float

    def fits(self, sizes: tuple[int, int, int]) -> bool:
        """Heads have a whole and even width, which rotary positions need, and one to speak of."""
        depth, dim, heads = sizes
        inside = depth in self.depth and dim in self.dim and heads in self.heads
        return inside and dim % (2 * heads) == 0 and dim >= NARROWEST * heads

    @property
    def sizes(self) -> list[tuple[int, int, int]]:
        """All that fit."""
        return [s for d in self.depth for w in self.dim for h in self.heads if self.fits(s := (d, w, h))]

    @property
    def shapes(self) -> list[Shape]:
        return [Shape(model, *sizes) for model in self.models for sizes in self.sizes]

    def node(self, shape: Shape) -> dict[str, Any]:
        """The settings of the model in that shape."""
        return {**self.models[shape.model].model, **widths(shape.sizes, self.mlp)}

    def settings(self, shape: Shape) -> Settings:
        """Of a run of the model in that shape."""
        return replace(self.models[shape.model], model=self.node(shape))


def exam_at(settings: Settings, length: int) -> Any:
    """The exam as if it had that length, of which data that it may not have are no part."""
    exam = copy(build.task(settings))
    exam.max_len = length
    return exam


def widths(sizes: tuple[int, int, int], mlp: float) -> dict[str, int]:
    depth, dim, heads = sizes
    return {"depth": depth, "dim": dim, "heads": heads, "qkv_dim": dim, "mlp_dim": round(mlp * dim)}


def words(sizes: tuple[int, int, int], mlp: float) -> list[str]:
    """The same for a command line."""
    return [f"size.{key}={value}" for key, value in widths(sizes, mlp).items()]


def composed(models: Sequence[str], sizes: Mapping[str, tuple[int, ...]], own: Sequence[str], folder: Any) -> Space:
    """The space of those models. own: words that all runs have. Raises UserError for a model whose file takes a size
    elsewhere than at its top, which another shape would then not reach."""
    usual = {model: compose.config([*own, f"model={model}"], folder) for model in models}
    size = next(iter(usual.values())).size
    space = Space(usual, sizes["depth"], sizes["dim"], sizes["heads"], size.mlp_dim / size.dim)
    if not space.sizes:
        raise UserError(
            f"size.heads: {_listed(space.heads)} leave none of the widths {_listed(space.dim)} heads of an even width"
            f" of at least {NARROWEST}"
        )
    for model in models:
        if usual[model].about.get("uses_2d"):
            raise UserError(f"model: {model} reads rows and columns, whose number is no length; allowed: other models")
        last = space.sizes[-1]
        if compose.config([*own, f"model={model}", *words(last, space.mlp)], folder).model != space.node(
            Shape(model, *last)
        ):
            raise UserError(f"model: {model} has sizes of its own, beside size.depth, size.dim and size.heads")
    return space


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def grid(space: Space, lengths: Sequence[int], shapes: int, seed: int) -> list[Point]:
    """So many sizes, the same of each model at each length, in an order that is drawn: a clock that drifts then says
    nothing of a model. Depths, widths and heads each appear about equally often (a Latin square of what fits)."""
    draw = random.Random(seed)
    fits = space.sizes
    chosen: list[tuple[int, int, int]] = []
    while len(chosen) < min(shapes, len(fits)):
        rest = [s for s in fits if s not in chosen]

        def seen(sizes: tuple[int, int, int]) -> int:
            return sum(sum(other[i] == sizes[i] for other in chosen) for i in range(len(SIZES)))

        least = min(map(seen, rest))
        chosen.append(draw.choice([s for s in rest if seen(s) == least]))
    points = [Point(Shape(m, *sizes), length) for m in space.models for sizes in chosen for length in lengths]
    draw.shuffle(points)
    return points
