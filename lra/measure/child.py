"""The measuring process itself.

    python -m lra.measure.child ANSWER PARENT TIMEOUT

On standard input come the config and then the limits of each turn, a line of JSON each; on standard output
goes READY when it waits for the next; the answer goes to a file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lra.machine.device import resolve_device, resolve_dtype, seed_everything
from lra.machine.pace import Pace
from lra.machine.watch import Watch, disturbed
from lra.measure.cost import LEAST_STEPS, Cost, Limits, Timing, failure, rates
from lra.measure.gauges import flops, is_oom, limit_memory, optimizer_tensors, resident_bytes, step_peak_bytes, timed
from lra.measure.session import READY
from lra.settings import build
from lra.settings.schema import Settings
from lra.settings.typed import typed
from lra.train.step import step
from lra.train.trainee import Alone, Trainee

COLD = 0.05  # seconds of a step to which empty caches matter
ONE = Limits(1, 0.0)


@dataclass
class Bench:
    """What is measured: a trainee with a batch that it holds, and the two phases that are timed."""

    settings: Settings
    trainee: Trainee
    parts: list[Any]
    parent: int
    size: int
    cost: Cost
    times: dict[str, list[Timing]] = field(default_factory=lambda: {"train": [], "inference": []})

    @property
    def device(self) -> torch.device:
        return self.trainee.acc.device

    @property
    def phases(self) -> Mapping[str, Callable[[], None]]:
        return {"train": self.step, "inference": self.infer}

    def step(self) -> None:
        if os.getppid() != self.parent:
            raise SystemExit(1)  # nobody waits for the answer any more
        step(self.trainee, self.parts, None)

    @torch.no_grad()
    def infer(self) -> None:
        with self.trainee.acc.autocast():
            for part in self.parts:
                self.trainee.called(part.tokens, part.mask)

    def turn(self, limits: Limits, watch: Watch, pace: Pace | None) -> None:
        """Time steps of both phases. From the second turn on a first step is not counted where steps are
        short: what others did meanwhile has emptied the caches."""
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
        tokens = sum(part.tokens.numel() for part in self.parts)
        found = {phase: rates(times, self.size, tokens) for phase, times in self.times.items()}
        busy = disturbed(watch.facts, *(asdict(r) for r in found.values()))
        return replace(self.cost, **found, conditions=watch.facts, disturbed=busy)


def prepared(settings: Settings, parent: int) -> Bench:
    """The model built and counted, on its device, with a batch of full length."""
    if settings.measure.memory_limit_gib is not None:
        limit_memory(settings.measure.memory_limit_gib)
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
    parts = min(settings.train.accumulate, size)
    acc = Alone(device, resolve_dtype(settings.dtype, device.type))
    trainee = Trainee(model, exam, settings.train, acc, settings.compile)
    # As training takes it: every process its share, in so many parts.
    cut = [batch] if parts == 1 else [type(batch)(*(t[i::parts] for t in batch)) for i in range(parts)]
    return Bench(settings, trainee, cut, parent, size, cost)


def warmed(bench: Bench, timeout: float) -> Cost | None:
    """Warm up and take the peak; a failure if it is known already that there will be no times."""
    model, measure = bench.trainee.model, bench.settings.measure
    model.train()
    warm = [timed(bench.step, ONE, bench.device)[0].wall for _ in range(measure.warmup_steps)]
    to_come = 1 + min(LEAST_STEPS, measure.steps)
    if sum(warm) + warm[-1] * to_come > timeout:
        return failure("timeout", f"a step takes {warm[-1]:.1f} s, and measuring it more than {timeout:.0f} s")
    peak = step_peak_bytes(bench.step, bench.device)
    held = [t for part in bench.parts for t in part]
    tensors = [*model.parameters(), *model.buffers(), *held, *optimizer_tensors(bench.trainee.optimizer)]
    bench.cost = replace(bench.cost, step_peak_bytes=peak, resident_bytes=resident_bytes(tensors))
    model.eval()
    bench.infer()
    return None


def measured(config: Mapping[str, Any], parent: int, timeout: float) -> Cost:
    """The cost, timed turn by turn as the parent asks for turns."""
    bench = prepared(typed(config), parent)
    if (failed := warmed(bench, timeout)) is not None:
        return failed
    pace, watch = Pace() if bench.device.type == "cpu" else None, Watch(torch.get_num_threads())
    print(READY, flush=True)
    for line in sys.stdin:
        bench.turn(Limits(**json.loads(line)), watch, pace)
        print(READY, flush=True)
    return bench.result(watch)


def main() -> int:
    answer, parent, timeout = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    try:
        result = measured(json.loads(sys.stdin.readline()), parent, timeout)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        result = failure("oom", (str(error).splitlines() or ["out of memory"])[0].split("DefaultCPUAllocator: ")[-1])
    draft = answer.with_suffix(".draft")
    draft.write_text(json.dumps(result.asdict()))
    draft.rename(answer)
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
