"""A search from its words to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from lra import console
from lra.console import line, say
from lra.errors import UserError
from lra.machine.device import resolve_device, resolve_dtype
from lra.machine.facts import machine
from lra.record.place import writable
from lra.search import shelf, told
from lra.search.asked import Asked
from lra.search.bench import BLOCK, block, blocks
from lra.search.found import Cost, Predicted, Search, costs
from lra.search.predict import pace_of, table_of
from lra.search.scored import TRIES, Quality, sizes
from lra.search.space import Point, Shape, grid

STARTING, BESIDE = 8.0, 1.0  # seconds that a block takes to start, and a point besides its timing
FEWEST, FEWEST_SIZES = 12, 4  # points, and sizes among them, that a predictor is fitted to


class Run:
    """measure: what measures a block, as lra.search.bench.block does."""

    def __init__(self, what: Asked, measure: Any = block) -> None:
        import torch

        settings = what.settings
        self.what, self.block = what, measure
        self.device = resolve_device(settings.device)
        self.dtype = resolve_dtype(settings.dtype, self.device)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda is not available here; use device=cpu or device=auto")
        self.machine = machine(self.device) | ({} if settings.threads is None else {"threads": settings.threads})
        # A row is believed its key, which says of what it is, and not what it says of itself.
        own = {key: point for point, key in self.keys.items()}
        self.rows = [r | where(own[r["key"]]) for r in self._read() if r["key"] in own]

    def _read(self) -> Sequence[Mapping[str, Any]]:
        task = self.what.settings.choices.task
        rows = shelf.read(self.what.results, task, lambda text: say(line(text)))
        return shelf.here(rows, self.machine, self.dtype)

    @cached_property
    def keys(self) -> dict[Point, str]:
        """Of all points that this search may ask for: what was measured for another space is in no way."""
        return shelf.keys(self.what.space, self.what.lengths)

    @property
    def todo(self) -> list[Point]:
        """Of the grid, what is to be measured."""
        return self.left(self.grid)

    def left(self, points: Sequence[Point]) -> list[Point]:
        """What is not recorded; with rerun=failed also what failed, with rerun=all everything."""
        rerun = self.what.settings.rerun
        known = {r["key"] for r in self.rows if rerun == "no" or (rerun == "failed" and r["status"] == "ok")}
        return [p for p in points if self.keys[p] not in known]

    @cached_property
    def grid(self) -> list[Point]:
        return grid(self.what.space, self.what.lengths, self.what.shapes, 0)

    def ahead(self) -> str:
        """What would be measured, and about how long that takes."""
        todo = self.todo
        seconds = len(todo) * (self.what.seconds + BESIDE) + -(-len(todo) // BLOCK) * STARTING
        shapes, models = len({p.shape.sizes for p in self.grid}), len(self.what.space.models)
        lengths = ", ".join(f"{n:,}" for n in self.what.lengths)
        return (
            f"{models} mixers x {shapes} shapes x {len(self.what.lengths)} lengths ({lengths} tokens):"
            f" {len(todo)} points to measure, {len(self.grid) - len(todo)} recorded;"
            f" about {console.duration(seconds)}\n"
            f"then a search among {len(self.what.space.shapes):,} shapes within {told.bounds(self.what.bounds)}, up to"
            f" {TRIES} more of a mixer measured;"
            f" nothing was run: results in {shelf.folder(self.what.results, self.what.settings.choices.task)}"
        )

    def measured(self, points: Sequence[Point]) -> list[Mapping[str, Any]]:
        """A row for each of these points, the newest that is no failure if there is one; each block of those that are
        left is kept as soon as it is measured."""
        left, done = self.left(points), 0
        for some in blocks(left):
            own = {"machine": self.machine, "dtype": self.dtype}
            found = own | self.block(some, self.what.space, self.what.seconds)
            keys = [self.keys[p] for p in some]
            shelf.write(self.what.results, self.what.settings.choices.task, keys, some, found)
            more = {k: found[k] for k in own}
            rows = [
                {"key": key, **where(p), **row, **more} for key, p, row in zip(keys, some, found["points"], strict=True)
            ]
            self.rows += rows
            done += len(some)
            say(f"[{done}/{len(left)}] measured")
            for p, row in zip(some, rows, strict=True):
                if row["status"] != "ok":
                    say(line(f"{p}: {row['status']}: {row['reason']}"))
        newest = {r["key"]: r for r in sorted(self.rows, key=lambda r: r["status"] == "ok")}
        return [newest[self.keys[p]] for p in points]

    def done(self) -> int:
        """The exit code. Same words and same grid, same answer: nothing is fitted to what other searches have left."""
        writable("results_dir", self.what.results)
        rows = self.measured(self.grid)
        pace = pace_of(rows)
        table = table_of(rows, pace)
        if len(table) < FEWEST or len(set(sizes(table))) < FEWEST_SIZES:
            raise UserError(
                f"shapes: of {len(self.grid)} points {len(table)} could be measured and counted, which is too few to"
                f" predict from; allowed: {FEWEST} or more, of {FEWEST_SIZES} sizes or more, by shapes or lengths"
            )
        length = self.what.lengths[-1]
        quality = Quality.of(table)
        print(told.quality(quality), flush=True)

        def measure(shapes: Sequence[Shape]) -> Mapping[Shape, Cost | None]:
            return costs(self.measured([Point(s, length) for s in shapes]), pace)

        known = costs([r for r in rows if r["length"] == length], pace)
        predicted = Predicted(table, self.what.space, length)
        best = Search(self.what, predicted, quality.surprises, measure, known).done()
        print(f"\n{told.found(self.what, best)}", flush=True)
        return 0 if any(c is not None for c in best.values()) else 1


def where(point: Point) -> dict[str, Any]:
    return {**point.shape._asdict(), "length": point.length}
