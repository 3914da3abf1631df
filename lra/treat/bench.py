"""Two models timed in turns, in one process: whatever the machine does meanwhile it does to both."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import torch
from torch import nn

from lra.machine.watch import BUSY, Watch
from lra.marks import stats
from lra.measure.cost import Limits
from lra.measure.gauges import step_peak_bytes, timed
from lra.settings.schema import Settings

ONE = Limits(1, 0.0)
SIDES = ("parent", "child")


class Bench:
    """Inference of both, at full length, for the run's batch and for a batch of one. seconds: of each round, by batch
    size and side, the median of its calls."""

    def __init__(self, settings: Settings, exam: Any, acc: Any, parent: nn.Module, child: nn.Module) -> None:
        self.models, self.acc = dict(zip(SIDES, (parent.eval(), child.eval()), strict=True)), acc
        size = settings.measure.batch_size or settings.train.batch_size
        self.batches = {n: exam.synthetic(n, acc.device) for n in dict.fromkeys((size, 1))}
        self.draw, self.watch = random.Random(settings.seed), Watch(torch.get_num_threads())
        self.first: dict[int, dict[str, float]] = {}
        self.peaks: dict[int, dict[str, int]] = {}
        self.seconds: dict[int, dict[str, list[float]]] = {n: {s: [] for s in SIDES} for n in self.batches}

    @torch.no_grad()
    def infer(self, side: str, size: int) -> None:
        batch = self.batches[size]
        with self.acc.autocast():
            self.models[side](batch.tokens, batch.mask)

    def warm(self) -> None:
        """First calls, in which what is compiled is compiled, and the peak of one that is warm."""
        for size in self.batches:
            for side in SIDES:
                begin = time.perf_counter()
                self.infer(side, size)
                self.first.setdefault(size, {})[side] = time.perf_counter() - begin
                self.infer(side, size)
                peak = step_peak_bytes(lambda side=side, size=size: self.infer(side, size), self.acc.device)
                self.peaks.setdefault(size, {})[side] = peak

    def turn(self, limits: Limits) -> None:
        """One round: of each batch size each side, in an order that is drawn."""
        with self.watch:
            for size in self.batches:
                for side in self.draw.sample(SIDES, len(SIDES)):

                    def call(side: str = side, size: int = size) -> None:
                        self.infer(side, size)

                    timed(call, ONE, self.acc.device)  # what the other left in the caches is not this one's
                    times = timed(call, limits, self.acc.device)
                    self.seconds[size][side].append(statistics.median(t.wall for t in times))

    def result(self) -> dict[str, Any]:
        """What a derived record keeps."""
        others, cores = self.watch.facts["other_cores"], self.watch.facts["cores"]
        return {
            "inference": [self._at(size) for size in self.batches],
            "conditions": self.watch.facts,
            "disturbed": others is not None and others > BUSY * cores,
        }

    def _at(self, size: int) -> dict[str, Any]:
        seconds = self.seconds[size]
        quicker = stats.ratio(seconds["parent"], seconds["child"])
        sides = {
            side: {
                "examples_per_second": size / statistics.median(seconds[side]),
                "seconds": [round(s, 6) for s in seconds[side]],
                "first_seconds": round(self.first[size][side], 6),
                "peak_bytes": self.peaks[size][side],
            }
            for side in SIDES
        }
        ratio = dict(zip(("value", "low", "high"), quicker, strict=True))
        peak = self.peaks[size]["child"] / self.peaks[size]["parent"] if self.peaks[size]["parent"] else None
        return {"batch_size": size, **sides, "ratio": ratio, "peak_ratio": peak, "break_even": self._even(size)}

    def _even(self, size: int) -> float | None:
        """Examples after which a slower first call has paid; null where it never does."""
        before, after = (statistics.median(self.seconds[size][side]) for side in SIDES)
        extra = self.first[size]["child"] - self.first[size]["parent"]
        return max(0.0, extra) / (before - after) * size if after < before else None
