"""The process that measures a block of points, which take turns.

    python -m lra.search.child DESCRIPTOR TIMEOUT

On the channel come the work, then the limits of each turn, then null; READY goes back when it waits for the next, and
in the end the answer: a row a point.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lra.errors import UserError, first_line
from lra.machine.alone import Alone
from lra.machine.channel import Channel
from lra.machine.device import resolve_device, resolve_dtype, seed_everything
from lra.machine.facts import machine
from lra.machine.heartbeat import felt
from lra.machine.pace import Pace
from lra.machine.watch import Watch
from lra.measure.cost import Limits, Timing
from lra.measure.gauges import is_oom, limit_memory, resident_bytes, step_peak_bytes, timed
from lra.measure.session import BEAT, READY
from lra.search.counts import counts
from lra.search.space import exam_at
from lra.settings import build
from lra.settings.typed import typed

ONE = Limits(1, 0.0)
COLD = 0.05  # seconds of a step to which empty caches matter


@dataclass
class Bench:
    """One model with a batch of one example of full length. row: what is known of it."""

    model: nn.Module
    batch: Any
    acc: Alone
    row: dict[str, Any]
    times: list[Timing] = field(default_factory=list)

    @torch.no_grad()
    def infer(self) -> None:
        with self.acc.autocast():
            self.model(self.batch.tokens, self.batch.mask)

    def turn(self, limits: Limits, pace: Pace | None) -> None:
        if not self.times or self.times[-1].wall < COLD:  # what others left in the caches is not this one's
            timed(self.infer, ONE, self.acc.device)
        self.times += timed(self.infer, limits, self.acc.device, pace)

    def result(self) -> dict[str, Any]:
        paced = None if not self.times or self.times[0].pace is None else [round(t.pace) for t in self.times]
        wall, core = ([round(getattr(t, of), 9) for t in self.times] for of in ("wall", "cpu"))
        return self.row | {"seconds": wall, "core_seconds": core, "paces": paced}


def prepared(config: Mapping[str, Any], acc: Alone, most: float) -> Bench:
    """Built, counted, warm, with its peak. most: seconds that a step may take. Raises UserError for one that takes
    longer."""
    settings = typed(config["settings"])
    exam = exam_at(settings, config["length"])
    model = build.model(settings, exam).to(acc.device).eval()
    batch = exam.synthetic(1, acc.device)
    parameters = sum(p.numel() for p in model.parameters())
    bench = Bench(model, batch, acc, {"status": "ok", "reason": None, "parameters": parameters})
    bench.infer()
    begin = time.perf_counter()
    bench.infer()
    if (took := time.perf_counter() - begin) > most:
        raise TimeoutError(f"a step takes {took:.2f} s, and measuring it more than there is time for")
    held = [*model.parameters(), *model.buffers(), *batch]
    peak = step_peak_bytes(bench.infer, acc.device)
    bench.row |= {"peak_bytes": peak, "resident_bytes": resident_bytes(held)} | counts(settings, exam)
    return bench


def failed(error: BaseException) -> dict[str, Any]:
    """The row of a point that cannot be measured."""
    status = "oom" if is_oom(error) else "timeout" if isinstance(error, TimeoutError) else "failed"
    name = "" if isinstance(error, (UserError, ValueError, TimeoutError)) else f"{type(error).__name__}: "
    return {"status": status, "reason": f"{name}{first_line(error)}"[:300]}


def measured(work: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Rows in the order of the work's points, and the conditions."""
    first = typed(work["points"][0]["settings"])
    if first.measure.memory_limit_gib is not None:
        limit_memory(first.measure.memory_limit_gib)
    if first.threads is not None:
        torch.set_num_threads(first.threads)
    device = resolve_device(first.device)
    acc = Alone(torch.device(device), resolve_dtype(first.dtype, device))
    seed_everything(first.seed)
    benches: dict[int, Bench] = {}
    rows: dict[int, dict[str, Any]] = {}
    for i, config in enumerate(work["points"]):
        try:
            benches[i] = prepared(config, acc, work["most"])
        except Exception as error:
            rows[i] = failed(error)
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter  # as lra.search.predict.seconds reads them
    pace, watch = Pace(clock) if device == "cpu" else None, Watch(threads)
    channel.send(READY)
    draw = random.Random(first.seed)
    while (limits := channel.receive()) is not None:
        with watch:
            for i in draw.sample(sorted(benches), len(benches)):
                try:
                    benches[i].turn(Limits(**limits), pace)
                except Exception as error:
                    rows[i] = failed(error)
                    del benches[i]
        channel.send(READY)
    rows |= {i: bench.result() for i, bench in benches.items()}
    found = [rows[i] for i in range(len(work["points"]))]
    for row in found:
        if row["status"] == "ok" and not (row["seconds"] and math.isfinite(sum(row["seconds"]))):
            row |= {"status": "failed", "reason": "no step was timed"}
    return {"points": found, "machine": machine(device), "dtype": acc.dtype, "conditions": watch.facts}


def main() -> int:
    channel = Channel.inherited(int(sys.argv[1]), closed=lambda: os._exit(1))  # nobody waits for the answer any more
    with felt(lambda _: channel.send(BEAT)):
        work = channel.receive()
        if work is not None:
            channel.send(measured(work, channel))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
