"""Claimed against fitted growth of the time and memory of a training step with length."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lra.check.subject import Finding, Subject
from lra.machine.alone import Alone
from lra.machine.memory import freed_kept
from lra.measure.gauges import quiet, slope, step_peak_bytes
from lra.settings.schema import Train
from lra.train.optim import optimizer
from lra.train.step import step

LENGTHS = (512, 1024, 2048, 4096, 8192)
ROUNDS = 5
SLACK = {"time": 0.15, "memory": 0.10}  # above a claimed exponent: what constants and blocks may add
RESAMPLES = 400


def growth(
    subject: Subject, lengths: Sequence[int] = LENGTHS, seconds: float = 25.0, clock: bool = True
) -> list[Finding]:
    """Two findings, "time growth" (unless `clock` is off) and "memory growth".

    The cost of a full training step of the stack (forward, backward, clip, AdamW; batch 1, one
    thread) at each length, after one that is not counted, two where time is. Time: median CPU seconds. Memory: step
    peak bytes. The exponent is the slope of log cost on log length: over all lengths, and over the
    last three, by which the claim is judged, because windows and segments are not yet full at 512.
    The interval of the time exponent (95 %) comes from resampling the timed steps, that of memory,
    which repeats to the byte, from the slopes of single doublings. `claims` in the model's YAML
    holds the exponents that it claims.

    Freed memory is kept for the next step (`lra.machine.memory`).

    Stops early when the next length would take more than is left of `seconds` (of CPU).
    """
    times: list[list[float]] = []
    peaks: list[int] = []
    begin = time.process_time()
    with freed_kept() if clock else nullcontext(), one_thread():
        for length in lengths:
            started = time.process_time()
            program = Stack(subject, length)
            program()
            if clock:
                program()
                times.append(timed(program, (seconds - (started - begin)) / 4))
            with quiet():
                peaks.append(step_peak_bytes(program))
            del program
            # The next length costs four times as much at most.
            now = time.process_time()
            if len(peaks) >= 3 and 4 * (now - started) > seconds - (now - begin):
                break
    done = list(lengths[: len(peaks)])
    claims = {k: float(v) for k, v in subject.settings.claims.items()}
    memory = judge("memory", done, peaks, doublings(done, peaks), claims)
    if not clock:
        return [memory]
    return [judge("time", done, [statistics.median(t) for t in times], interval(done, times), claims), memory]


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Stack:
    """What is stepped to judge growth: a stack built for `length`, and a gradient that comes back to it."""

    train = Train(learning_rate=1e-4, grad_clip=1.0, betas=(0.9, 0.999), weight_decay=0.01)

    def __init__(self, subject: Subject, length: int) -> None:
        self.net = subject.build(length=length, pooling="mean").train().stack
        self.acc = Alone(torch.device("cpu"), "float32")
        self.optimizer = optimizer(self.net, self.train)
        self.loss, self.extra, self.steps = torch.zeros(()), torch.zeros(()), 0
        self.states = States(
            subject.states(1, length).requires_grad_(),
            torch.ones(1, length, dtype=torch.bool),
            subject.states(1, length, seed=1),
        )

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return self.net.parameters()

    def follow(self) -> None:
        """Nothing here is averaged."""

    def gradients(self, part: States, share: float) -> None:
        self.net(part.x, part.mask).backward(part.back)
        part.x.grad = None

    def __call__(self) -> None:
        step(self, [self.states])


class States(NamedTuple):
    """A batch of a stack: its input (1, L, D), mask (1, L), and the gradient of its output."""

    x: Tensor
    mask: Tensor
    back: Tensor
    asked: int = 1

    def to(self, device: torch.device) -> States:
        return self


def timed(step: Callable[[], None], seconds: float) -> list[float]:
    """CPU seconds of up to ROUNDS steps, at least 2."""
    begin = time.process_time()
    found: list[float] = []
    while len(found) < 2 or (len(found) < ROUNDS and time.process_time() - begin < seconds):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return found


def interval(lengths: list[int], times: list[list[float]]) -> tuple[float, float]:
    """95 % of the slopes over the last three lengths, one timed step a length drawn each time."""
    draw = random.Random(0)
    slopes = sorted(slope(lengths[-3:], [draw.choice(t) for t in times[-3:]]) for _ in range(RESAMPLES))
    return slopes[round(0.025 * RESAMPLES)], slopes[round(0.975 * RESAMPLES) - 1]


def doublings(lengths: list[int], peaks: list[int]) -> tuple[float, float]:
    """Least and largest slope between neighbours among the last three lengths."""
    last = list(zip(lengths, peaks, strict=True))[-3:]
    slopes = [slope(*zip(*pair, strict=True)) for pair in pairwise(last)]
    return min(slopes), max(slopes)


def judge(
    what: str, lengths: list[int], costs: Sequence[float], bounds: tuple[float, float], claims: dict[str, float]
) -> Finding:
    """Compare the fitted exponent with the claimed one."""
    fitted, overall, claim = slope(lengths[-3:], costs[-3:]), slope(lengths, costs), claims.get(what)
    numbers: dict[str, Any] = {
        "claimed": claim,
        "fitted": fitted,
        "interval": list(bounds),
        "fitted_from": lengths[-3],
        "overall": overall,
        "lengths": lengths,
        "costs": list(costs),
        "unit": "CPU seconds" if what == "time" else "bytes",
    }
    text = (
        f"grows with L^{fitted:.2f} [{bounds[0]:.2f}, {bounds[1]:.2f}] from {lengths[-3]:,} to {lengths[-1]:,}"
        f" (L^{overall:.2f} from {lengths[0]:,})"
    )
    if claim is None:
        return Finding(f"{what} growth", "note", f"{text}; claims.{what} is not set", numbers)
    # Noise must not break a claim: time is judged by the lower end of its interval.
    least = bounds[0] if what == "time" else fitted
    if least > claim + SLACK[what]:
        return Finding(f"{what} growth", "fail", f"{text}, claimed is L^{claim:g}", numbers)
    return Finding(f"{what} growth", "ok", f"{text}; claimed L^{claim:g}", numbers)
