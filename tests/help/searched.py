"""A law in the place of the machine that a search measures on, so that what is right is known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lra.search import run
from lra.search.asked import Asked, Bounds, asked
from lra.search.space import Point, Shape, Space

SMALL = [
    "task=listops", "task.max_len=64", "task.min_length=3", "model=transformer,linear", "size.depth=1,2,3",
    "size.dim=16,24,32,48", "size.heads=1,2", "lengths=32", "shapes=10", "threads=1", "seconds=0.1",
]  # fmt: skip
FACTORS = {"transformer": 1.0, "linear": 1.7}


def made(shape: Shape, length: int) -> dict[str, int]:
    """What a step is made of, of layers that are alike."""
    pairs = length if shape.model == "transformer" else shape.dim // shape.heads
    parameters = shape.depth * (8 * shape.dim**2 + 9 * shape.dim) + 2 * shape.dim
    return {
        "flops": 2 * length * shape.depth * (8 * shape.dim**2 + 2 * shape.dim * pairs),
        "written": 40 * length * shape.depth * shape.dim,
        "ops": 10 + (30 if shape.model == "transformer" else 45) * shape.depth,
        "stack_parameters": parameters,
        "resident": 4 * (parameters + 80 * shape.dim),
    }


class Law:
    """In the place of a process that measures: time is FLOPs and operations at a rate, times a factor a mixer. bad:
    points that cannot be measured. surprise: how much more a shape takes than the law has it."""

    def __init__(self, bad: Any = None, surprise: Any = None) -> None:
        self.asked: list[Point] = []
        self.bad, self.surprise = bad or (lambda p: False), surprise or (lambda p: 1.0)

    def seconds(self, p: Point) -> float:
        has = made(*p)
        return (1e-9 * has["flops"] + 2e-5 * has["ops"]) * FACTORS[p.shape.model] * self.surprise(p)

    def memory(self, p: Point) -> int:
        return 40 * p.length * p.shape.dim + made(*p)["resident"]

    def __call__(self, points: Sequence[Point], space: Space, seconds: float) -> dict[str, Any]:
        self.asked += points
        rows = []
        for p in points:
            if self.bad(p):
                rows.append({"status": "oom", "reason": "it is said to"})
                continue
            has = made(*p)
            core = [self.seconds(p)] * 3
            times = {"seconds": [2 * s for s in core], "core_seconds": core, "paces": [100, 100, 100]}
            size = {"parameters": 1, "peak_bytes": 40 * p.length * p.shape.dim, "resident_bytes": has["resident"]}
            rows.append({"status": "ok", "reason": None, **has, **size, **times})
        return {"points": rows, "conditions": {}}


def within(shape: Shape, bound: float, cost: Any) -> None:
    """Is it the largest of its mixer within a bound, which others keep, and others not?"""
    points = [Point(s, 64) for s in small().space.shapes if s.model == shape.model]
    good = [p for p in points if cost(p) <= bound]
    assert 3 < len(good) < len(points)
    assert made(shape, 64)["stack_parameters"] == max(made(*p)["stack_parameters"] for p in good)
    assert cost(Point(shape, 64)) <= bound


@cache
def small(*words: str) -> Asked:
    """Composed once."""
    return asked([*SMALL, "latency=6ms", *words])


def searching(
    folder: Path, law: Any, latency: float | None = 6e-3, memory: float | None = None, rerun: str = "no"
) -> run.Run:
    what = small()
    models = {m: replace(s, results_dir=str(folder), rerun=rerun) for m, s in what.space.models.items()}
    return run.Run(replace(what, bounds=Bounds(latency, memory), space=replace(what.space, models=models)), law)


def told(capsys: pytest.CaptureFixture[str], searching: run.Run) -> tuple[int, list[Shape], list[list[str]]]:
    """The exit code, and of each command that is named the shape and its words."""
    code = searching.done()
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(text)[3:] for text in lines if text.startswith("python -m lra ")]
    said = [dict(word.split("=", 1) for word in words) for words in commands]
    return code, [Shape(w["model"], *(int(w[f"size.{k}"]) for k in ("depth", "dim", "heads"))) for w in said], commands
