"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lra.errors import UserError
from lra.machine.company import clock as now
from lra.machine.pace import Pace
from lra.settings.schema import Settings, Train
from lra.tasks.base import counted
from lra.train.batches import Part, feed, stream
from lra.train.evaluate import evaluate
from lra.train.optim import learning_rate, set_learning_rate
from lra.train.parts import Cut, cut_for
from lra.train.state import Saver, State, captured, restored
from lra.train.step import step
from lra.train.trainee import Trainee

Progress = Callable[..., None]  # called with step and, as they are known, loss, examples_per_second, valid


class Diverged(Exception):
    """The loss is not finite, or far above that of chance."""


@dataclass
class Spent:
    """On all learning rates together: seconds of training, core-seconds, and core-seconds times the machine's pace."""

    seconds: float = 0.0
    core_seconds: float = 0.0
    work: float = 0.0
    paced: float = 0.0  # core-seconds that `work` is of

    @property
    def pace(self) -> float | None:
        """FLOPs per core-second, the mean over the core-seconds that were spent; null where it was not taken."""
        return self.work / self.paced if self.paced else None


@dataclass
class Fit:
    """What training leaves: the curve, the best step on valid and the weights of that step."""

    curve: list[dict[str, Any]] = field(default_factory=list)
    steps_done: int = 0
    best_step: int | None = None
    best_accuracy: float | None = None
    best_items: int | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    core_seconds: float = 0.0  # of this process's processor time
    examples: int = 0
    tokens: int = 0
    positions: int = 0
    parts: int = 0  # of all steps, over one process
    undivided: str | None = None  # why every batch is one part, where there is a reason
    taken: int = 0  # steps of all rates, this one's among them
    spent: Spent = field(default_factory=Spent)
    ladder: list[dict[str, Any]] = field(default_factory=list)  # of each rate how far it came (lra.train.ladder)


def fit(
    trainee: Trainee,
    settings: Settings,
    progress: Progress = lambda **_: None,
    out: Fit | None = None,
    saver: Saver | None = None,
    since: State | None = None,
    until: int | None = None,
    watch: Watch | None = None,
) -> Fit:
    """Train for `settings.train.steps` steps, or `until` one of them; keep the weights that are best on valid
    (earliest of equals). Where `train.stop_at` is reached on valid, it ends there.

    `out` is filled as training goes, so that an interrupted caller still has the curve. `saver` is handed the state
    before every evaluation and whenever it wants one; from such a state, `since`, training goes on to the same end.
    Raises Diverged when the loss is not finite or its running mean exceeds `train.diverged_at` times ln C.
    """
    out = out if out is not None else Fit()
    train = settings.train
    cut = cut_for(trainee.model, settings, trainee.acc.device.type, trainee.exam.documents)
    out.undivided = cut.undivided
    watch = watch if watch is not None else Watch(trainee, train.diverged_at)
    end = train.steps if until is None else until
    enough = enough_for(trainee.exam, train)
    if since is not None:
        restored(trainee, out, watch, since)
    trainee.net.train()
    done = out.steps_done
    if done and due(done, train, end) and (not out.curve or out.curve[-1]["step"] != done):
        mark(trainee, settings, done, watch.running, out)
    if reached(out, enough):
        return out
    batches = parts_of_batches(trainee, settings, cut, after=done)
    clock = Clock(out, paced=trainee.acc.device.type == "cpu")
    for number in range(done + 1, end + 1):
        with saver.held() if saver is not None else nullcontext():
            set_learning_rate(trainee.optimizer, learning_rate(number - 1, train))
            parts = next(batches)
            count(parts, trainee.acc.num_processes, out)
            step(trainee, parts, train.batch_size if trainee.exam.answers == "sequence" else None)
            out.steps_done = number
            out.taken += 1
            if watch.look(number, last=number == end, asked=saver is not None and saver.wanted()):
                clock.read()
                progress(step=number, loss=watch.running, examples_per_second=out.examples / out.seconds)
            if saver is not None and (watch.asked or due(number, train, end)):
                with clock.stopped():
                    saver.keep(captured(trainee, out, watch))
                    watch.asked = False
        if due(number, train, end):
            with clock.stopped():
                mark(trainee, settings, number, watch.running, out)
            progress(step=number, valid=out.curve[-1]["valid_accuracy"], loss=watch.running)
            if reached(out, enough):
                break
    return out


def due(number: int, train: Train, end: int) -> bool:
    """Is there an evaluation after this step?"""
    return number % train.eval_every == 0 or number == end


def enough_for(exam: Any, train: Train) -> float | None:
    """The accuracy on valid at which training ends early. Raises UserError for an exam that has no score."""
    if train.stop_at is None:
        return None
    levels = exam.levels("valid")
    if levels is None:
        raise UserError(f"train.stop_at: task={exam.name} has no ceiling above a floor; it takes null")
    floor, ceiling = levels
    return floor + train.stop_at * (ceiling - floor)


def reached(out: Fit, enough: float | None) -> bool:
    return enough is not None and bool(out.curve) and out.curve[-1]["valid_accuracy"] >= enough


class Clock:
    """Seconds of training, which sees neither evaluations nor what is kept; told to a Fit when it is read. paced: take
    the machine's pace now and then, which it does not see either."""

    EVERY = 5.0  # core-seconds from one look at the pace to the next, which takes a hundredth of one

    def __init__(self, out: Fit, paced: bool = False) -> None:
        self.out, self.pace = out, Pace(time.process_time) if paced else None
        self.begin()

    def begin(self) -> None:
        self.start = now() - self.out.seconds, time.process_time() - self.out.core_seconds

    def read(self) -> None:
        (wall, cores), out = self.start, self.out
        seconds, core_seconds = now() - wall, time.process_time() - cores
        out.spent.seconds += seconds - out.seconds
        out.spent.core_seconds += core_seconds - out.core_seconds
        out.seconds, out.core_seconds = seconds, core_seconds
        if out.spent.core_seconds - out.spent.paced > self.EVERY:
            self.look()

    def look(self) -> None:
        """Take the pace, for the core-seconds since it was taken last."""
        if self.pace is not None and (since := self.out.spent.core_seconds - self.out.spent.paced) > 0:
            self.out.spent.work += since * self.pace.rate(0.0)
            self.out.spent.paced += since
            self.begin()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.read()
        self.look()
        yield
        self.begin()


def parts_of_batches(trainee: Trainee, settings: Settings, cut: Cut, after: int = 0) -> Iterator[list[Part]]:
    """Endless batches, of each the parts that this process takes. after: steps that are done."""
    acc, train = trainee.acc, settings.train
    split = trainee.exam.split("train")
    endless = counted(split) is None
    drawn = stream(split.lengths, train.batch_size, settings.seed, settings.data.bucket, endless)
    batches = islice(drawn, after, None)
    share = acc.process_index, acc.num_processes
    return feed(trainee.exam, split, batches, cut, share, settings.data.workers, acc.device.type == "cuda")


def count(parts: list[Part], processes: int, out: Fit) -> None:
    """Add what a step is made of, over all processes."""
    out.parts += len(parts)
    for part in parts:
        out.examples += len(part.batch.labels) * processes
        out.tokens += int(part.batch.mask.sum()) * processes
        out.positions += part.batch.mask.numel() * processes


class Watch:
    """The running mean of the loss, over all processes, and whether it has gone astray."""

    def __init__(self, trainee: Trainee, diverged_at: float) -> None:
        self.trainee, self.running = trainee, None
        self.chance = math.log(trainee.exam.num_classes)
        self.limit = diverged_at * math.log(max(2, trainee.exam.num_classes))
        # A look at the loss makes the host wait for a CUDA device, so there it is taken more rarely.
        self.every = 1 if trainee.acc.device.type == "cpu" else 10
        self.unread: list[Tensor] = []
        self.asked = False  # has any process asked for something? All hear of it at the same step

    def look(self, number: int, last: bool, asked: bool = False) -> bool:
        """Take the loss of a step; True if it was looked at. Raises Diverged."""
        self.unread.append(self.trainee.loss.clone())
        if len(self.unread) < self.every and not last:
            return False
        told = torch.stack([*self.unread, torch.full_like(self.unread[0], float(asked))])
        *values, asking = self.trainee.acc.reduce(told, "mean").tolist()
        self.asked = asking > 0
        for value in values:
            self.running = value if self.running is None else 0.9 * self.running + 0.1 * value
            if not math.isfinite(value) or self.running > self.limit:
                raise Diverged(f"loss {value:.4g} at step {number} (chance is {self.chance:.4g})")
        self.unread.clear()
        return True


def mark(trainee: Trainee, settings: Settings, number: int, running: float | None, out: Fit) -> None:
    """Score valid, add a point to the curve, and keep the weights if they are the best so far."""
    score = evaluate(trainee.evaluated, trainee.exam, "valid", settings, trainee.acc)
    if trainee.acc.device.type == "cuda":
        torch.cuda.synchronize()
    out.curve.append(
        {
            "step": number,
            "train_loss": running,
            "valid_loss": score.loss,
            "valid_accuracy": score.accuracy,
            "seconds": round(out.seconds, 3),
            "core_seconds": round(out.core_seconds, 3),
        }
    )
    if out.best_accuracy is None or score.accuracy > out.best_accuracy:
        out.best_accuracy, out.best_items, out.best_step = score.accuracy, score.items, number
        state = trainee.acc.unwrap_model(trainee.evaluated).state_dict()
        out.best_state = {k: v.detach().to("cpu", copy=True) for k, v in state.items()}
