"""A search from its words to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lra import console
from lra.console import line, say
from lra.errors import UserError
from lra.machine.device import resolve_device, resolve_dtype
from lra.machine.facts import machine
from lra.record.place import writable
from lra.search import shelf, told
from lra.search.asked import Asked
from lra.search.bench import BLOCK, block, blocks
from lra.search.found import Predicted, Search, costs
from lra.search.frame import frame
from lra.search.predict import fitted, parts_of_bytes
from lra.search.scored import by_shape, held_out, regrets, scores
from lra.search.space import Point, grid

STARTING, BESIDE = 8.0, 1.0  # seconds that a block takes to start, and a point besides its timing
FEWEST = 12  # points that a predictor is fitted to


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
        own = set(self.keys.values())
        self.rows = [r for r in self._read() if r["key"] in own]

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
        """Of the grid, what is not recorded; with rerun=failed also what failed, with rerun=all everything."""
        rerun = self.what.settings.rerun
        known = {r["key"] for r in self.rows if rerun == "no" or (rerun == "failed" and r["status"] == "ok")}
        return [p for p in self.grid if self.keys[p] not in known]

    @cached_property
    def grid(self) -> list[Point]:
        return grid(self.what.space, self.what.lengths, self.what.shapes, 0)

    def ahead(self) -> str:
        """What would be measured, and about how long that takes."""
        todo = self.todo
        seconds = len(todo) * (self.what.seconds + BESIDE) + -(-len(todo) // BLOCK) * STARTING
        sizes, models = len({p.shape.sizes for p in self.grid}), len(self.what.space.models)
        lengths = ", ".join(f"{n:,}" for n in self.what.lengths)
        return (
            f"{models} mixers x {sizes} shapes x {len(self.what.lengths)} lengths ({lengths} tokens):"
            f" {len(todo)} points to measure, {len(self.grid) - len(todo)} recorded;"
            f" about {console.duration(seconds)}\n"
            f"then a search among {len(self.what.space.shapes):,} shapes within {told.bounds(self.what.bounds)};"
            f" nothing was run: results in {shelf.folder(self.what.results, self.what.settings.choices.task)}"
        )

    def measured(self, points: Sequence[Point]) -> Sequence[Mapping[str, Any]]:
        """All rows, those of the points among them, each block kept as soon as it is measured."""
        done = 0
        for some in blocks(points):
            found = self.block(some, self.what.space, self.what.seconds)
            keys = [self.keys[p] for p in some]
            whole = {"machine": self.machine, "dtype": self.dtype} | found
            shelf.write(self.what.results, self.what.settings.choices.task, keys, some, whole)
            here = {k: whole[k] for k in ("machine", "dtype")}
            rows = [
                {"key": key, **p.shape._asdict(), "length": p.length, **row, **here}
                for key, p, row in zip(keys, some, whole["points"], strict=True)
            ]
            self.rows = [*self.rows, *rows]
            done += len(some)
            failed = [
                f"{p}: {r['status']}: {r['reason']}" for p, r in zip(some, rows, strict=True) if r["status"] != "ok"
            ]
            say(f"[{done}/{len(points)}] measured")
            for text in failed:
                say(line(text))
        return self.rows

    def done(self) -> int:
        """The exit code."""
        writable("results_dir", self.what.results)
        self.measured(self.todo)
        table = frame(self.rows)
        if len(table) < FEWEST:
            raise UserError(
                f"shapes: of {len(self.rows)} points {len(table)} could be measured, which is too few to predict from;"
                f" allowed: {FEWEST} or more, by more shapes, lengths or seconds"
            )
        print(self.quality(table), flush=True)
        length = self.what.lengths[-1]
        predicted = Predicted(table, self.what.space, length)
        best = Search(self.what, predicted, self.measured, costs(self.rows, length)).done()
        print(f"\n{told.found(self.what, best)}", flush=True)
        return 0 if any(c is not None for c in best.values()) else 1

    def quality(self, table: pd.DataFrame) -> str:
        """What is said of the predictor."""
        latency, peak = table.latency.to_numpy(float), table.peak_bytes.to_numpy(float)
        folds = by_shape(table)
        guessed = np.column_stack([
            held_out(table, latency, folds, fitted),
            held_out(table, peak, folds, lambda t, y: fitted(t, y, parts_of_bytes)) + table.resident_bytes,
        ])  # fmt: skip
        real = np.column_stack([latency, table.memory])
        worth = table.stack_parameters.to_numpy(float)
        far = float(np.quantile(np.abs(guessed[:, 1] / real[:, 1] - 1), 0.9))
        return "\n".join([
            told.scored(scores(table, latency)),
            f"memory, shapes held out: the 90th percentile of its error is {100 * far:.0f} %",
            told.regret(regrets(table, worth, guessed, real)),
        ])  # fmt: skip
