"""Which learning rate: successive halving on valid (Jamieson and Talwalkar 2016, arXiv 1502.07943)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lra.console import say
from lra.settings.schema import Settings
from lra.train.fit import Diverged, Fit, Progress, Saver, Spent, Watch, enough_for, fit, reached
from lra.train.state import State, Unfit, captured, restored

SHOWN = {"step": 0, "valid_loss": 5, "valid_accuracy": 5, "core_seconds": 2}  # of a curve: decimals


@dataclass
class Rate:
    """One learning rate, and how far it has come.

    curve: of its evaluations. ended: null while it may go on, else "dropped", "diverged" or "enough".
    """

    rate: float
    steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    ended: str | None = None
    diverged: str | None = None  # what was said of it

    @property
    def standing(self) -> tuple[bool, int, float, float]:
        """The smaller, the better: those that have enough first, by their steps; then by accuracy, by loss, on
        valid at the last evaluation. One that has diverged is last."""
        last = self.curve[-1] if self.curve and self.diverged is None else None
        accuracy, loss = (last["valid_accuracy"], last["valid_loss"]) if last else (-1.0, float("inf"))
        enough = self.ended == "enough"
        return not enough, self.steps if enough else 0, -accuracy, loss

    def told(self) -> dict[str, Any]:
        """What a record keeps."""
        curve = {key: [round(point[key], digits) for point in self.curve] for key, digits in SHOWN.items()}
        return {"rate": self.rate, "steps": self.steps, "ended": self.ended, "curve": curve}


def climb(
    trainee: Any,
    settings: Settings,
    progress: Progress = lambda **_: None,
    out: Fit | None = None,
    saver: Saver | None = None,
    since: State | None = None,
) -> Fit:
    """`fit` at `train.learning_rate`, or at the best of `train.rates`.

    All rates are trained, from the same weights on the same batches, to the first step of `train.halve_at`; the half
    that is better on valid goes on to the second, and so forth; the one that is left goes to `train.steps`, or all do
    where there is nothing to halve at. Once one has reached `train.stop_at`, the others finish the steps that all of
    them are at, and it is taken. The rate that is taken ends as if it had been trained alone.

    Raises Diverged if every rate has.
    """
    out = out if out is not None else Fit()
    if not settings.train.rates:
        if since is not None:
            out.taken, out.spent = since.facts["steps_done"], Spent(**since.facts.get("spent", {}))
        return fit(trainee, settings, progress, out, saver, since)
    return Ladder(trainee, settings, progress, out, saver).climb(since)


class Ladder:
    """Its state is that of the rate in hand, with the states of the others beside it."""

    def __init__(self, trainee: Any, settings: Settings, progress: Progress, out: Fit, saver: Saver | None) -> None:
        self.trainee, self.settings, self.out = trainee, settings, out
        self.progress, self.saver = progress, saver
        self.rates = [Rate(rate) for rate in settings.train.rates]
        self.states: dict[int, State] = {}  # of rates that are not in hand
        self.rung = self.at = 0
        self.enough = enough_for(trainee.exam, settings.train)

    def climb(self, since: State | None) -> Fit:
        watch = self.watch()
        first = captured(self.trainee, self.out, watch)
        self.states = dict.fromkeys(range(len(self.rates)), first)
        if since is not None:
            since = self.taken_up(since)
        ends = (*self.settings.train.halve_at, self.settings.train.steps)
        while True:
            end = ends[self.rung]
            while self.at < len(self.rates):
                if self.rates[self.at].ended is None:
                    self.train(end, since if since is not None else self.states[self.at])
                    since = None
                self.at += 1
            if self.over(end):
                break
            self.rung, self.at = self.rung + 1, 0
        # One that was dropped has seen less, and at chance the last look at it may yet be the luckiest.
        kept = [i for i, rate in enumerate(self.rates) if rate.ended != "dropped"]
        best = min(kept, key=lambda i: self.rates[i].standing)
        if self.rates[best].diverged is not None:
            raise Diverged(f"at each of {len(self.rates)} rates, {self.rates[best].diverged}")
        taken = self.out.taken
        restored(self.trainee, self.out, watch, self.states[best])
        self.out.taken, self.out.ladder = taken, [rate.told() for rate in self.rates]
        return self.out

    def watch(self) -> Watch:
        return Watch(self.trainee, self.settings.train.diverged_at)

    def train(self, end: int, since: State) -> None:
        """The rate in hand up to step `end`."""
        one, watch = self.rates[self.at], self.watch()
        train = replace(self.settings.train, learning_rate=one.rate)
        saver = None if self.saver is None else Beside(self.saver, self)
        before = self.out.taken - since.facts["steps_done"]

        def progress(step: int, **values: Any) -> None:
            if "valid" in values:
                self.note()
            self.progress(step=before + step, **values)

        try:
            fit(self.trainee, replace(self.settings, train=train), progress, self.out, saver, since, end, watch)
            one.ended = "enough" if reached(self.out, self.enough) else None
        except Diverged as error:
            one.ended, one.diverged = "diverged", str(error)
        self.note()
        self.states[self.at] = captured(self.trainee, self.out, watch)

    def note(self) -> None:
        """What is known of the rate in hand."""
        one = self.rates[self.at]
        one.steps, one.curve = self.out.steps_done, list(self.out.curve)
        self.out.ladder = [rate.told() for rate in self.rates]

    def over(self, end: int) -> bool:
        """Let the better half go on; is there nothing left to do?"""
        order = sorted(self.rates, key=lambda rate: rate.standing)
        going = [rate for rate in order if rate.ended is None]
        if not going or order[0].ended == "enough" or end == self.settings.train.steps:
            return True
        kept = -(-len(self.rates) // 2 ** (self.rung + 1))  # rounded up
        for rate in going[kept:]:
            rate.ended = "dropped"
        words = ", ".join(f"{rate.rate:g}" for rate in going[:kept])
        say(f"after {end} steps at each learning rate the best on valid is {order[0].rate:g}; on goes {words}")
        return False

    def whole(self, state: State) -> State:
        """The state of all from that of the rate in hand."""
        self.note()
        tensors, facts = {f"hand.{k}": v for k, v in state.tensors.items()}, {}
        for i, other in self.others():
            tensors |= {f"{i}.{k}": v for k, v in other.tensors.items()}
            facts[str(i)] = other.facts
        said = {
            "rung": self.rung,
            "at": self.at,
            "rates": [asdict(rate) for rate in self.rates],
            "hand": state.facts,
            "others": facts,
        }
        of_all = {"steps_done": self.out.taken, "spent": asdict(self.out.spent)}
        return State(tensors, of_all | {"curve": state.facts["curve"], "ladder": said})

    def others(self) -> Iterator[tuple[int, State]]:
        """Those that may still be needed, but for the one that all began with."""
        for i, state in self.states.items():
            if i != self.at and state.facts["steps_done"] and self.rates[i].ended in (None, "enough"):
                yield i, state

    def taken_up(self, since: State) -> State:
        """Make the ladder what it was; the state of the rate in hand. Raises Unfit for one of another ladder."""
        try:
            said = since.facts["ladder"]
            self.rung, self.at = said["rung"], said["at"]
            self.rates = [Rate(**rate) for rate in said["rates"]]
            self.out.taken, self.out.spent = since.facts["steps_done"], Spent(**since.facts.get("spent", {}))
            for i, facts in said["others"].items():
                self.states[int(i)] = State(_below(since.tensors, f"{i}."), facts)
            return State(_below(since.tensors, "hand."), said["hand"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unfit("it does not fit this run (it holds no ladder of learning rates)") from error


def _below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class Beside:
    """Who keeps states, told of all rates at once."""

    def __init__(self, saver: Saver, ladder: Ladder) -> None:
        self.saver, self.ladder = saver, ladder

    def wanted(self) -> bool:
        return self.saver.wanted()

    def keep(self, state: State) -> None:
        self.saver.keep(self.ladder.whole(state))

    def held(self) -> AbstractContextManager[None]:
        return self.saver.held()
