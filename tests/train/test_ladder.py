"""Successive halving over learning rates, averaged weights, and an end when enough is learnt."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lra.errors import UserError
from lra.machine.device import accelerator, seed_everything
from lra.machine.pace import Pace
from lra.settings import build, compose
from lra.settings.schema import Train
from lra.train import ladder as module
from lra.train.evaluate import evaluate
from lra.train.fit import Diverged, Fit
from lra.train.ladder import climb
from lra.train.state import State, Unfit, packed, unpacked
from lra.train.trainee import Trainee
from tests.help import composed

HERE = accelerator("cpu", "float32")
SMALL = (
    "task=shift", "budget=ability", "task.max_len=16", "task.by=3", "task.sizes=[50,60]", "train.batch_size=8",
    "train.eval_every=3", "train.warmup_steps=2", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16",
)  # fmt: skip
LADDER = ("train.steps=14", "train.rates=[1e-4,1e-3,1e-2]", "train.halve_at=[4,8]", "train.stop_at=null")
TIMES = ("seconds", "core_seconds")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace of the machine by one product a look: there are as many looks here as steps."""
    monkeypatch.setattr(Pace, "LEAST", 0.0)
    monkeypatch.setattr(Pace, "SHARE", 0.0)


def settings(*words: str) -> Any:
    return composed.settings("model=transformer", *SMALL, *words)


def run(asked: Any, saver: Any = None, since: State | None = None) -> tuple[Trainee, Fit]:
    exam = build.task(asked)
    seed_everything(asked.seed)
    trainee = Trainee(build.model(asked, exam), exam, asked.train, HERE, seed=asked.seed)
    return trainee, climb(trainee, asked, saver=saver, since=since)


def untimed(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in point.items() if k not in TIMES} for point in curve]


def same(one: tuple[Trainee, Fit], other: tuple[Trainee, Fit]) -> None:
    """To the bit: weights in hand, their average, the best, and all that was seen on the way."""
    for a, b in zip(one[0].model.state_dict().values(), other[0].model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one[0].evaluated.parameters(), other[0].evaluated.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one[1].best_state.keys() == other[1].best_state.keys()
    assert all(torch.equal(v, other[1].best_state[k]) for k, v in one[1].best_state.items())
    assert untimed(one[1].curve) == untimed(other[1].curve)
    assert one[1].best_step == other[1].best_step and one[1].steps_done == other[1].steps_done


def test_the_rate_that_is_taken_ends_as_if_trained_alone() -> None:
    """And with it the weights, also when it is not the last that was in hand."""
    taken = run(settings(*LADDER))
    rates = [r for r in taken[1].ladder if r["steps"] == 14]
    assert len(rates) == 1
    words = (f"train.learning_rate={rates[0]['rate']}", "train.rates=[]", "train.halve_at=[]")
    alone = run(settings("train.steps=14", "train.stop_at=null", *words))
    drawn = {p["step"] for p in alone[1].curve}
    assert {p["step"] for p in taken[1].curve} - drawn == {4, 8}  # it is looked at where rates are compared
    for a, b in zip(taken[0].model.state_dict().values(), alone[0].model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    at = {p["step"]: p for p in untimed(taken[1].curve)}
    assert all(at[p["step"]] == p for p in untimed(alone[1].curve))


def test_halves_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which rates go on follows from valid: accuracy, then loss; here as the rates are, better the smaller."""
    seen: list[tuple[float, int]] = []

    def fit(trainee: Any, asked: Any, progress: Any, out: Fit, saver: Any, since: Any, until: int, watch: Any) -> Fit:
        rate = asked.train.learning_rate
        seen.append((rate, until))
        out.taken += until - since.facts["steps_done"]
        out.steps_done, accuracy = until, 1 / (1 + rate) if until < 8 else rate / 100
        out.curve = [{"step": until, "valid_loss": rate, "valid_accuracy": accuracy, "core_seconds": 0.0}]
        return out

    monkeypatch.setattr(module, "fit", fit)
    rates = "train.rates=[1,2,3,4,5]"
    _, out = run(settings("train.steps=20", rates, "train.halve_at=[4,8,12]", "train.stop_at=null"))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (1, 8), (2, 8), (3, 8), (2, 12), (3, 12), (3, 20)]
    assert [(r["rate"], r["steps"], r["ended"]) for r in out.ladder] == [
        (1, 8, "dropped"), (2, 12, "dropped"), (3, 20, None), (4, 4, "dropped"), (5, 4, "dropped"),
    ]  # fmt: skip
    assert out.steps_done == 20  # although one that was dropped had stood better when it was
    asked = settings(rates, "train.halve_at=[4,8,12]", "train.steps=20")
    assert out.taken == 5 * 4 + 3 * 4 + 2 * 4 + 8 == asked.train.steps_in_all
    seen.clear()
    _, out = run(settings("train.steps=20", "train.rates=[1,2,3]", "train.halve_at=[]", "train.stop_at=null"))
    assert seen == [(1, 20), (2, 20), (3, 20)] and out.taken == 60 and {r["ended"] for r in out.ladder} == {None}
    assert out.curve[-1]["valid_accuracy"] == 0.03, "the best at the end"


@pytest.mark.parametrize("count", range(1, 9))
def test_all_steps_are_counted(count: int) -> None:
    ends = tuple(range(10, 10 * (1 + (count - 1).bit_length()), 10))
    train, left, total = Train(steps=100, rates=(1.0,) * count, halve_at=ends), count, 0
    for step in range(1, 101):
        total += left
        if step in ends:
            left -= left // 2
    assert left == 1 and train.steps_in_all == total


def test_it_ends_when_enough_is_learnt() -> None:
    """All rates finish what the first rung asks; the one with fewest steps is taken, and goes no further."""
    words = ("task.values=2", "train.steps=500", "train.rates=[1e-5,1e-2]", "train.halve_at=[300]")
    words = (*words, "size.dim=32", "size.qkv_dim=32", "train.eval_every=10")
    _, out = run(settings(*words, "train.stop_at=0.9", "train.batch_size=16"))
    slow, taken = out.ladder
    assert slow["ended"] is None and slow["steps"] == 300
    assert taken["ended"] == "enough"
    assert out.steps_done == taken["steps"] == out.curve[-1]["step"] < 300
    floor, ceiling = build.task(settings(*words)).levels("valid")
    scores = [(p["valid_accuracy"] - floor) / (ceiling - floor) for p in out.curve]
    assert scores[-1] >= 0.9 and all(s < 0.9 for s in scores[:-1])
    assert out.taken == sum(r["steps"] for r in out.ladder)


class Killed(Exception):
    pass


class Saver:
    """Keeps states as they come back from disk; may stop the run at one of them."""

    def __init__(self, stop: int | None = None) -> None:
        self.states: list[State] = []
        self.stop = stop

    def wanted(self) -> bool:
        return True

    def keep(self, state: State) -> None:
        self.states.append(unpacked(packed(state), json.loads(json.dumps(state.facts, allow_nan=False))))
        if len(self.states) == self.stop:
            raise Killed

    def held(self) -> Any:
        return nullcontext()


@pytest.mark.parametrize(
    ("words", "model"),
    [(LADDER, "performer"), ((*LADDER[:-1], "task.values=2", "train.stop_at=0.05"), "transformer")],
)
def test_it_goes_on_from_every_state(words: tuple[str, ...], model: str) -> None:
    """Also in the middle of a rung, at its end, and between a state and the look at valid that follows it."""
    asked = settings(*words, "size.dropout=0.1", f"model={model}")
    saver = Saver()
    whole = run(asked, saver)
    numbers = [state.facts["steps_done"] for state in saver.states]
    assert numbers == list(range(1, whole[1].taken + 1))
    spent = [state.facts["spent"]["core_seconds"] for state in saver.states]
    own = sum(rung["curve"]["core_seconds"][-1] for rung in whole[1].ladder)
    assert spent == sorted(spent) and 0 < spent[0] < spent[-1] <= whole[1].spent.core_seconds
    assert whole[1].spent.core_seconds == pytest.approx(own, abs=0.03)
    assert whole[1].spent.pace > 1e8 and whole[1].spent.paced <= whole[1].spent.core_seconds
    for at in [4, 9, len(numbers) - 1] if model == "performer" else [1, len(numbers)]:
        other = run(asked, since=saver.states[at - 1])
        same(whole, other)
        assert [{**r, "curve": r["curve"]["valid_accuracy"]} for r in other[1].ladder] == [
            {**r, "curve": r["curve"]["valid_accuracy"]} for r in whole[1].ladder
        ]
        assert other[1].taken == whole[1].taken
        assert other[1].spent.core_seconds >= spent[at - 1]


def test_a_state_of_something_else_is_refused() -> None:
    saver = Saver(stop=5)
    with pytest.raises(Killed):
        run(settings(*LADDER), saver)
    state = saver.states[-1]
    for facts in ({}, {"steps_done": 3}, {**state.facts, "ladder": {**state.facts["ladder"], "rates": [{"rte": 1}]}}):
        with pytest.raises(Unfit):
            run(settings(*LADDER), since=State(state.tensors, facts))


def test_a_rate_that_diverges_goes_no_further() -> None:
    out = run(settings("train.steps=12", "train.rates=[1e-3,1e9]", "train.halve_at=[6]", "train.stop_at=null"))[1]
    assert [r["ended"] for r in out.ladder] == [None, "diverged"]
    assert out.ladder[1]["steps"] < 6 and out.steps_done == 12
    with pytest.raises(Diverged, match="at each of 2 rates, loss"):
        run(settings("train.steps=12", "train.rates=[1e8,1e9]", "train.halve_at=[6]", "train.stop_at=null"))


@pytest.mark.parametrize("model", [pytest.param("transformer", marks=pytest.mark.slow), "performer", "lstm"])
def test_the_average_is_that_of_the_weights(model: str) -> None:
    """Against the plain recursion; training itself is the same with and without."""
    words = ("train.steps=9", "train.rates=[]", "train.halve_at=[]", "train.stop_at=null", f"model={model}")
    asked, plain = settings(*words, "train.average=0.7"), settings(*words, "train.average=0.0")
    saver = Saver()
    bare, out = run(plain, saver)
    expected: dict[str, torch.Tensor] = {}
    for state in saver.states:
        for name, value in state.tensors.items():
            if name.startswith("model."):
                old = expected.get(name, value)
                expected[name] = 0.7 * old + 0.3 * value if value.is_floating_point() else value
    found, averaged = run(asked)
    names = dict(found.model.named_parameters())
    for name, value in found.evaluated.state_dict().items():
        if name in names:
            torch.testing.assert_close(value, expected[f"model.{name}"], rtol=1e-5, atol=1e-7)
    for a, b in zip(bare.model.parameters(), found.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert bare.evaluated is bare.net
    score = evaluate(found.evaluated, found.exam, "valid", asked, HERE)
    assert averaged.curve[-1]["valid_loss"] == score.loss != out.curve[-1]["valid_loss"]
    assert set(averaged.best_state) == set(found.model.state_dict())


def test_an_exam_whose_floor_is_its_ceiling_has_no_score() -> None:
    near = build.task(settings("task.by=2"))
    assert near.floor(2) == near.ceiling() == 1.0 and near.levels("test") is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train.rates=[1e-2,1e-3]"], r"train.rates: \[0.01, 0.001\] is not a list of numbers above 0, ascending"),
        (["train.rates=[0.0,1e-3]"], "train.rates"),
        (["train.halve_at=[300]"], r"halve_at: \[300\] is not 2 ascending numbers of steps below train.steps=2500"),
        (["train.halve_at=[300,2500]"], "train.halve_at"),
        (["train.rates=[]"], r"train.halve_at: .* is not 0 ascending"),
        (["train.average=1.0"], r"train.average: 1.0 is not in \[0, 1\)"),
        (["train.stop_at=0"], r"train.stop_at: 0.0 is not in \(0, 1\]"),
    ],
)  # fmt: skip
def test_what_makes_no_ladder_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        compose.config(["task=shift", "model=transformer", "budget=ability", *words])


def test_an_exam_without_levels_knows_no_enough(tmp_path: Path) -> None:
    asked = settings("train.stop_at=0.5", "train.rates=[]", "train.halve_at=[]")
    exam = build.task(asked)
    exam.levels = lambda split: None
    trainee = Trainee(build.model(asked, exam), exam, asked.train, HERE)
    with pytest.raises(UserError, match="train.stop_at: task=shift has no ceiling above a floor"):
        climb(trainee, replace(asked))
