"""Measuring processes that take turns: the protocol, the rounds, and every way to fail."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.measure import turns
from lra.measure.alone import measure
from lra.measure.cost import LEAST_STEPS, Cost, Limits, failure
from lra.measure.session import Session
from lra.measure.turns import together
from lra.settings.typed import plain
from tests.help import tiny

TURN = Limits(2, 9.0, 1)


@pytest.mark.usefixtures("warm")
def test_turns_add_up_to_one_measurement(tmp_path: Path) -> None:
    config = plain(tiny.config(tmp_path))
    with Session(config, 60.0) as session:
        assert session.prepare() and session.turn(TURN) and session.turn(TURN)
        found = session.finish()
    whole = measure(config)
    assert (found.status, found.train.steps, found.inference.steps) == ("ok", 4, 4)
    assert set(found.asdict()) == set(whole.asdict())
    same = ("step_peak_bytes", "resident_bytes", "train_flops", "parameters", "batch_size")
    assert {k: getattr(found, k) for k in same} == {k: getattr(whole, k) for k in same}


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_two_models_take_turns(tmp_path: Path) -> None:
    configs = [plain(tiny.config(tmp_path, f"model={m}", "measure.steps=9")) for m in ("linear", "local")]
    found = together(configs, 60.0, 0)
    assert [r.status for r in found] == ["ok", "ok"]
    assert all(getattr(r, phase).steps >= LEAST_STEPS for r in found for phase in ("train", "inference"))


@pytest.mark.usefixtures("warm")
def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    config = plain(tiny.config(tmp_path))
    config["task"]["_target_"] = "tasks.nothing.Nothing"
    with Session(config, 60.0) as session:
        assert not session.prepare() and not session.turn(TURN)
        found = session.finish()
    assert found.status == "failed" and "tasks.nothing" in found.reason


@pytest.mark.usefixtures("warm")
def test_a_child_that_is_killed_says_by_what(tmp_path: Path) -> None:
    with Session(plain(tiny.config(tmp_path)), 60.0) as session:
        assert session.prepare()
        os.kill(session.process.pid, signal.SIGKILL)
        session.process.wait()
        assert not session.turn(TURN)
        assert session.finish() == failure("failed", "the measuring process was killed by signal 9 (Killed)")


def test_a_child_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    with Session(plain(tiny.config(tmp_path)), 0.2) as session:
        assert not session.prepare()
        assert session.finish() == failure("timeout", "measuring took more than 0 s")
        assert session.process.wait(10.0) == -signal.SIGKILL, "it works on while others have their turns"


# The rounds, with sessions that only keep count.


class Counted:
    """A session whose turns take `spent` seconds each; `answers` of the model, one after the other."""

    log: list[str]
    answers: dict[str, list[Cost]]

    def __init__(self, config: dict[str, Any], timeout: float) -> None:
        self.name, self.seconds, self.longest = config["name"], config.get("turn", 0.0), 0.0
        self.spent, self.dead = 0.0, config.get("dead", False)

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepare(self) -> bool:
        return not self.dead

    def turn(self, limits: Limits) -> bool:
        assert limits.least == 1
        self.log.append(self.name)
        self.spent += self.seconds
        self.longest = self.seconds
        return True

    def finish(self) -> Cost:
        return self.answers[self.name].pop(0)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    Counted.log, Counted.answers = [], {}
    monkeypatch.setattr(turns, "Session", Counted)
    return Counted


def limits(steps: int = 20, seconds: float = 100.0) -> dict[str, Any]:
    return {"measure": {"steps": steps, "seconds": seconds}}


def answer(others: float = 0.0, disturbed: bool = False, status: str = "ok", reason: str | None = None) -> Cost:
    """`reason` serves as a name tag."""
    return Cost(status, reason, conditions={"other_cores": others}, disturbed=disturbed)


def test_rounds_have_everybody_once_and_no_fixed_order(counted: type[Counted]) -> None:
    counted.answers = {n: [answer()] for n in "abc"}
    together([{"name": n} | limits(40) for n in "abc"], 100.0, 0)
    each = [tuple(counted.log[i : i + 3]) for i in range(0, len(counted.log), 3)]
    assert len(each) == 40 / turns.STEPS and all(sorted(r) == ["a", "b", "c"] for r in each) and len(set(each)) > 1


def test_there_are_enough_rounds_and_not_too_many(counted: type[Counted]) -> None:
    for more, rounds in ((limits(1), LEAST_STEPS), (limits(4000, 0.0), LEAST_STEPS), (limits(28), 7)):
        counted.log, counted.answers = [], {"a": [answer()]}
        together([{"name": "a"} | more], 100.0, 0)
        assert len(counted.log) == rounds


def test_the_time_allowed_is_that_of_each_phase_of_each(
    counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: float(len(counted.log))))  # a second a turn
    counted.answers = {n: [answer()] for n in "abc"}
    together([{"name": n} | limits(4000, 20.0) for n in "abc"], 1e6, 0)
    assert len(counted.log) == 2 * 3 * 20


def test_nobody_is_given_the_turn_that_would_be_too_much(counted: type[Counted]) -> None:
    counted.answers = {"slow": [answer()], "fast": [answer()]}
    together([{"name": "slow", "turn": 10.0} | limits(80), {"name": "fast"} | limits(80)], 100.0, 0)
    assert (counted.log.count("slow"), counted.log.count("fast")) == (8, 20)


@pytest.mark.parametrize(
    ("second", "kept"), [(0.5, "second"), (0.9, "first"), (None, "first")], ids=["calmer", "worse", "failed"]
)
def test_if_one_was_disturbed_all_take_turns_again_and_are_kept_together(
    counted: type[Counted], second: float | None, kept: str
) -> None:
    def answers(own: float, name: str) -> list[Cost]:
        last = answer(status="failed") if second is None else answer(second, second > 0.6)
        last = last if name == "a" else answer()
        return [answer(own, own > 0.6, reason="first"), replace(last, reason="second")]

    counted.answers = {"a": answers(0.8, "a"), "b": answers(0.1, "b"), "c": [answer(status="timeout")]}
    found = together([{"name": n, "dead": n == "c"} | limits() for n in "abc"], 100.0, 0)
    assert [(r.reason, r.attempts) for r in found] == [(kept, 2), (kept, 2), (None, 1)]
    assert set(counted.log) == {"a", "b"}


def test_who_ran_out_of_memory_beside_others_is_tried_alone(
    counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "attempt", lambda config, _: answer(reason=f"{config['name']} alone"))
    counted.answers = {"a": [answer(status="oom")], "b": [answer()]}
    found = together([{"name": "a", "dead": True} | limits(), {"name": "b"} | limits()], 100.0, 0)
    assert found[0].reason == "a alone" and found[1] == answer() and "a" not in counted.log
    counted.answers = {"a": [answer(status="oom")]}
    assert together([{"name": "a", "dead": True} | limits()], 100.0, 0)[0].status == "oom"


def test_nothing_to_measure() -> None:
    assert together([], 1.0, 0) == []
