"""The measuring process itself.

    python -m lra.measure.child DESCRIPTOR TIMEOUT

On the channel come the config, then the limits of each turn, then null; READY goes back when it waits for the
next, and in the end the answer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from lra.machine.alone import Alone
from lra.machine.channel import Channel
from lra.machine.device import resolve_device, resolve_dtype, seed_everything
from lra.machine.heartbeat import felt
from lra.machine.memory import keep_freed
from lra.machine.pace import Pace
from lra.machine.watch import Watch, disturbed
from lra.measure.cost import LEAST_STEPS, Cost, Drawn, Limits, Timing, drawn, failure, rates
from lra.measure.gauges import flops, is_oom, limit_memory, optimizer_tensors, resident_bytes, step_peak_bytes, timed
from lra.measure.session import BEAT, READY
from lra.settings import build
from lra.settings.schema import Settings
from lra.settings.typed import typed
from lra.train.batches import Part, dealt
from lra.train.fit import Fit, count, parts_of_batches
from lra.train.parts import cut_for
from lra.train.step import step
from lra.train.trainee import Trainee

COLD = 0.05  # seconds of a step to which empty caches matter
STRETCH = 0.25  # seconds of steps from one look at the pace to the next, after which the caches are empty
ONE = Limits(1, 0.0)


@dataclass
class Bench:
    """What is measured: a trainee with a batch that it holds, and the two phases that are timed."""

    settings: Settings
    trainee: Trainee
    parts: list[Part]
    size: int
    cost: Cost
    times: dict[str, list[Timing]] = field(default_factory=lambda: {"train": [], "inference": []})
    drawn: Drawn | None = None

    @property
    def device(self) -> torch.device:
        return self.trainee.acc.device

    @property
    def phases(self) -> Mapping[str, Callable[[], None]]:
        return {"train": self.step, "inference": self.infer}

    def step(self) -> None:
        step(self.trainee, self.parts, None)

    @torch.no_grad()
    def infer(self) -> None:
        with self.trainee.acc.autocast():
            for part in self.parts:
                self.trainee.called(part.batch.tokens, part.batch.mask)

    def draw(self, limits: Limits) -> None:
        """Time training steps on the run's own first batches."""
        trainee, seen = self.trainee, Fit()
        cut = cut_for(trainee.model, self.settings, self.device.type, trainee.exam.documents)
        batches = parts_of_batches(trainee, self.settings, cut)

        def several(number: int) -> None:
            for _ in range(number):
                parts = next(batches)
                count(parts, 1, seen)
                step(trainee, parts, None)

        trainee.model.train()
        warm = [timed(lambda: several(1), ONE, self.device)[0].wall for _ in range(self.settings.measure.warmup_steps)]
        each = 1 + int(STRETCH / warm[-1])
        pace = Pace(time.process_time) if self.device.type == "cpu" else None
        self.drawn = drawn(timed(lambda: several(each), limits, self.device, pace), each)

    def turn(self, limits: Limits, watch: Watch, pace: Pace | None) -> None:
        """Time steps of both phases. From the second turn on a first step is not counted where steps are
        short: what others did meanwhile has emptied the caches."""
        if limits.drawn:
            return self.draw(limits)
        with watch:
            for phase, program in self.phases.items():
                self.trainee.model.train(phase == "train")
                known = self.times[phase]
                if known and known[-1].wall < COLD:
                    timed(program, ONE, self.device)
                known += timed(program, limits, self.device, pace)

    def result(self, watch: Watch) -> Cost:
        """What the turns have found."""
        if not self.times["train"]:
            return failure("failed", "no step was timed")
        tokens = sum(part.batch.tokens.numel() for part in self.parts)
        found = {phase: rates(times, self.size, tokens) for phase, times in self.times.items()}
        busy = disturbed(watch.facts, *(asdict(r) for r in found.values()))
        return replace(self.cost, **found, drawn=self.drawn, conditions=watch.facts, disturbed=busy)


def prepared(settings: Settings) -> Bench:
    """The model built and counted, on its device, with a batch of full length."""
    if settings.measure.memory_limit_gib is not None:
        limit_memory(settings.measure.memory_limit_gib)
    keep_freed()
    device = torch.device(resolve_device(settings.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed)
    exam = build.task(settings)
    model = build.model(settings, exam)
    size = settings.measure.batch_size or settings.train.batch_size
    cost = Cost(
        "ok",
        batch_size=size,
        length=exam.max_len,
        documents=exam.documents,
        parameters=sum(p.numel() for p in model.parameters()),
        **flops(model, exam.synthetic(size, torch.device("meta"))),
    )
    model.to(device)
    batch = exam.synthetic(size, device)
    acc = Alone(device, resolve_dtype(settings.dtype, device.type))
    trainee = Trainee(model, exam, settings.train, acc, settings.compile, settings.seed)
    # Of full length there are none of like length: as many parts as memory is saved by.
    return Bench(settings, trainee, dealt(batch, min(settings.train.accumulate, size)), size, cost)


def warmed(bench: Bench, timeout: float) -> Cost | None:
    """Warm up and take the peak; a failure if it is known already that there will be no times."""
    model, measure = bench.trainee.model, bench.settings.measure
    model.train()
    warm = [timed(bench.step, ONE, bench.device)[0].wall for _ in range(measure.warmup_steps)]
    to_come = 1 + min(LEAST_STEPS, measure.steps)
    if sum(warm) + warm[-1] * to_come > timeout:
        return failure("timeout", f"a step takes {warm[-1]:.1f} s, and measuring it more than {timeout:.0f} s")
    peak = step_peak_bytes(bench.step, bench.device)
    held = [t for part in bench.parts for t in part.batch]
    tensors = [*model.parameters(), *model.buffers(), *held, *optimizer_tensors(bench.trainee.optimizer)]
    bench.cost = replace(bench.cost, step_peak_bytes=peak, resident_bytes=resident_bytes(tensors))
    model.eval()
    bench.infer()
    return None


def measured(config: Mapping[str, Any], timeout: float, channel: Channel) -> Cost:
    """The cost, timed turn by turn as the parent asks for turns."""
    bench = prepared(typed(config))
    if (failed := warmed(bench, timeout)) is not None:
        return failed
    pace, watch = Pace() if bench.device.type == "cpu" else None, Watch(torch.get_num_threads())
    channel.send(READY)
    while (limits := channel.receive()) is not None:
        bench.turn(Limits(**limits), watch, pace)
        channel.send(READY)
    return bench.result(watch)


def main() -> int:
    descriptor, timeout = int(sys.argv[1]), float(sys.argv[2])
    channel = Channel.inherited(descriptor, closed=lambda: os._exit(1))  # nobody waits for the answer any more
    try:
        with felt(lambda _: channel.send(BEAT)):
            result = measured(channel.receive(), timeout, channel)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        result = failure("oom", (str(error).splitlines() or ["out of memory"])[0].split("DefaultCPUAllocator: ")[-1])
    channel.send(result.asdict())
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
