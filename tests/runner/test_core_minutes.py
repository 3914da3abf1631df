"""A race: as many steps as minutes hold, counted before training, and the same again when they are said."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from lra.errors import UserError
from lra.machine import pace as paces
from lra.measure.cost import Drawn, Timing, drawn
from lra.record import store
from lra.record.record import Record
from lra.root import CONFIGS
from lra.runner import minutes, phases
from lra.runner.run import recorded
from lra.settings import build, compose, identity
from lra.settings.schema import Shares, Train
from lra.settings.typed import plain
from lra.sweep import estimate
from lra.train import fit as fits
from lra.train.fit import Clock, Fit, Spent
from tests.help import composed, made, tiny

RACE = ["task=listops", "model=transformer", "budget=race"]
SMALL = [word for word in tiny.WORDS if word.split("=")[0] not in ("train.steps", "train.eval_every")]
HERE = {"device": "cpu", "name": "CPU X", "threads": 1}


def test_minutes_stand_in_place_of_steps() -> None:
    race = compose.config(RACE)
    assert race.train.steps is None and race.train.core_minutes == 20 and race.train.steps_in_all is None
    small = compose.config(["task=listops", "budget=small"])
    assert not race.variant and race.size == replace(small.size, dropout=0.0, attention_dropout=0.0)
    longer = compose.config([*RACE, "train.core_minutes=40"])
    assert longer.train == replace(race.train, core_minutes=40) and longer.variant == ("train.core_minutes=40.0",)
    said = compose.config([*RACE, "train.steps=100"])
    assert said.train.core_minutes is None and said.variant == ("train.steps=100",)
    names = [identity.identity(plain(each)) for each in (race, longer, said)]
    assert len(set(names)) == 3
    planned = said.train.of_steps(100)
    assert (planned.warmup_steps, planned.eval_every, planned.halve_at) == (5, 5, (10, 20))


@pytest.mark.parametrize(
    ("words", "said"), [(["train.steps=9"], "train.steps=9"), (["budget=quick"], "train.steps=300")]
)
def test_minutes_and_steps_are_not_both_asked_for(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"train.core_minutes: 3.0 does nothing beside {said};"):
        compose.config([*RACE, "train.core_minutes=3", *words])


def test_the_columns_of_a_race_are_whole_exams_or_say_what_they_are() -> None:
    params = yaml.safe_load((CONFIGS / "sweep" / "race.yaml").read_text())["hydra"]["sweeper"]["params"]
    rows = {}
    for task in params["task"].split(","):
        settings = composed.settings(f"task={task}", "budget=race")
        exam = build.task(settings)
        rows[exam.row] = exam.max_len
        assert settings.train.steps is None
    assert rows == {
        "listops": 2000, "text_1024": 1024, "text": 4096, "retrieval_acl": 4000, "image_jpeg": 1024,
        "pathfinder-contour6": 1024,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train.core_minutes=0"], ["train.core_minutes", "0", "not in (0"]),
        (["train.core_minutes=null"], ["train.steps: null", "train.core_minutes"]),
        (["train.shares.halve=[0.2,0.1]"], ["train.shares.halve: [0.2, 0.1]", "2 ascending"]),
        (["train.shares.halve=[0.2]"], ["train.shares.halve: [0.2]", "2 ascending"]),
        (["train.shares.warmup=2"], ["train.shares.warmup: 2", "[0, 1]"]),
        (["train.shares.evaluate=null"], ["train.shares.evaluate"]),
        (["train.steps=4"], ["train.halve_at: [0, 1]", "train.steps=4"]),
    ],
)
def test_what_cannot_be_counted_is_one_line(words: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        composed.settings(*RACE, *words)
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts), caught.value


def test_minutes_are_of_one_process_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes.alone(composed.settings(*RACE))
    with pytest.raises(UserError, match="measure.enabled=false"):
        minutes.alone(composed.settings(*RACE, "measure.enabled=false"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    minutes.alone(composed.settings(*RACE, "train.steps=50"))
    with pytest.raises(UserError, match="one process alone"):
        minutes.alone(composed.settings(*RACE))


@pytest.mark.parametrize("rates", [1, 2, 3, 4, 7])
def test_the_steps_are_the_most_that_fit(rates: int) -> None:
    halve = tuple(0.1 * (i + 1) for i in range((rates - 1).bit_length()))
    whole = Train(steps=None, rates=(1e-3,) * rates, shares=Shares(0.05, 0.05)).within(1000)
    assert whole.steps == 1000 // rates, "without halving each rate has its share"
    train = Train(steps=None, rates=(1e-3,) * rates, shares=Shares(0.05, 0.05, halve))
    for most in (40, 41, 397, 10_007):
        fitting = [n for n in range(1, most + 1) if train.of_steps(n).steps_in_all <= most]
        found = train.within(most)
        assert found.steps == max(fitting) and found == train.of_steps(found.steps)
        assert found.steps_in_all > most - 2 * rates


def test_a_step_is_told_by_what_the_machine_could_have_done_meanwhile() -> None:
    """At half the pace a step takes twice as long, and is the same work."""
    found = drawn([Timing(2.0, 1.0, 4e9), Timing(4.0, 2.0, 2e9)], each=10)
    assert (found.steps, found.seconds, found.core_seconds) == (20, 0.3, 0.15)
    assert found.core_seconds * found.pace == pytest.approx(0.4e9)
    assert drawn([Timing(2.0, 1.0)]).pace is None


def test_all_models_on_a_machine_have_minutes_of_one_pace(tmp_path: Path) -> None:
    """The first race's, of as many threads; a machine at half of it is given as many steps, not half."""
    settings = composed.settings(*RACE, f"results_dir={tmp_path}", "train.core_minutes=2")
    first = minutes.counted(settings, HERE, Drawn(9, 0.6, 0.5, 4e9))
    assert first == {
        "of": "core", "asked": 2, "step_seconds": 0.5, "pace_of_steps": 4e9, "pace": 4e9, "steps": 240,
    }  # fmt: skip
    for name, threads, pace in (("CPU Y", 1, 9e9), ("CPU X", 2, 8e9), ("CPU X", 1, 4e9), ("CPU X", 1, 1e9)):
        store.write(tmp_path, made.example(machine={"name": name, "threads": threads}, minutes={"pace": pace}))
    slow = minutes.counted(settings, HERE, Drawn(9, 1.2, 1.0, 2e9))
    assert (slow["steps"], slow["pace"], slow["pace_of_steps"]) == (240, 4e9, 2e9)
    assert minutes.used(slow, Spent(300.0, 240.0, 240 * 2e9, 240.0)) == pytest.approx(2.0)
    with pytest.raises(UserError, match="hold no step"):
        minutes.counted(settings, HERE, Drawn(9, 900.0, 900.0, 2e9))


def test_on_a_gpu_they_are_its_own(tmp_path: Path) -> None:
    settings = composed.settings(*RACE, f"results_dir={tmp_path}", "train.core_minutes=2")
    found = minutes.counted(settings, HERE | {"device": "cuda"}, Drawn(9, 0.25, 0.7, None))
    assert (found["of"], found["steps"], found["pace"]) == ("device", 480, None)
    assert minutes.used(found, Spent(120.0, 500.0)) == 2.0


def test_the_clock_sees_no_look_at_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pace is that of the core-seconds before each look."""
    at, rates = [100.0], iter([3.0, 1.0])
    monkeypatch.setattr(fits, "time", SimpleNamespace(process_time=lambda: at[0]))
    monkeypatch.setattr(fits, "now", lambda: at[0])

    def rate(_: Any, __: float) -> float:
        at[0] += 50.0
        return next(rates)

    monkeypatch.setattr(paces.Pace, "rate", lambda *_: 1.0)
    out = Fit(seconds=7.0, core_seconds=7.0)
    clock = Clock(out, paced=True)
    monkeypatch.setattr(paces.Pace, "rate", rate)
    for _ in range(3):
        at[0] += 2.0
        clock.read()
    assert out.core_seconds == 13.0 and out.spent == Spent(6.0, 6.0, 18.0, 6.0)
    at[0] += 2.0
    with clock.stopped():
        at[0] += 1000.0
    clock.read()
    assert out.seconds == out.core_seconds == 15.0 and out.spent.pace == (6 * 3 + 2 * 1) / 8


def test_how_long_a_race_takes_is_known_beforehand() -> None:
    settings = composed.settings(*RACE, "threads=2")
    assert estimate.trained(settings, {}) == 600
    for threads in (1, 3):
        assert estimate.trained(replace(settings, threads=threads), {}) == 1200 / threads
    rounds = estimate.scored(settings, {"inference": {"examples_per_second": 1.0}}, {"valid": 1, "test": 0})
    assert rounds == round(20 * settings.train.of_steps(1000).steps_in_all / 1000) == 26


def test_minutes_before_training_hold_as_many_steps_each_as_those_of_training() -> None:
    told = {"steps": 1400, "asked": 20.0}
    assert phases.steps_in(SimpleNamespace(minutes=told), 5.0) == 350
    assert phases.steps_in(SimpleNamespace(minutes={}), 5.0) is None


def raced(folder: Path, *more: str) -> Record:
    words = [word for word in tiny.words(folder, "model=transformer", "budget=race", *more) if word not in tiny.WORDS]
    before = set(store.paths(folder / "results"))
    made = recorded(compose.config([*SMALL, *words]))
    (path,) = set(store.paths(folder / "results", "*", "transformer")) - before
    assert made.status == "ok" and store.read(path) == made
    return made


@pytest.mark.usefixtures("warm")
def test_the_same_steps_give_the_same_answers(tmp_path: Path) -> None:
    asked = raced(tmp_path, "train.core_minutes=0.02", "measure.seconds=0.5")
    told = asked.minutes
    assert told["of"] == "core" and told["asked"] == 0.02 and told["used"] == pytest.approx(0.02, rel=0.5)
    assert asked.steps_budget == asked.steps_done and asked.config["train"]["steps"] is None and len(asked.ladder) == 3
    again = raced(tmp_path, f"train.steps={asked.steps_budget}", "measure.enabled=false")
    assert not again.minutes and again.variant != asked.variant
    assert (again.loss_test, again.accuracy_test, again.best_step) == (
        asked.loss_test, asked.accuracy_test, asked.best_step,
    )  # fmt: skip
    assert [p["train_loss"] for p in again.curve] == [p["train_loss"] for p in asked.curve]
    first, second = (
        np.load(store.folder(tmp_path / "results", r.task, r.model) / r.predictions["file"]) for r in (asked, again)
    )
    assert (first["predictions"] == second["predictions"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["transformer", "lstm"])
@pytest.mark.parametrize("task", [(), ("task=shift", "task.max_len=32", "task.by=3", "task.sizes=[50,60]")])
def test_minutes_used_are_those_asked_for(task: tuple[str, ...], model: str, tmp_path: Path) -> None:
    """In core-seconds at the pace of the machine."""
    begin = time.process_time()
    words = [w for w in SMALL if not (task and w.startswith("task"))]
    places = [w for w in tiny.words(tmp_path) if w not in tiny.WORDS]
    done = tiny.lra(
        *words, *task, *places, f"model={model}", "budget=race", "train.core_minutes=0.1", "measure.seconds=2"
    )
    assert done.returncode == 0, done.stderr
    (r,) = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    assert r.minutes["used"] == pytest.approx(0.1, rel=0.1), r.minutes
    assert time.process_time() - begin < 5  # it is the run that works
