"""A run that was stopped goes on, and ends as one that was not."""

from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lra.errors import UserError
from lra.machine import facts
from lra.machine.alone import Alone
from lra.machine.device import seed_everything
from lra.record import claim, store, unfinished
from lra.record.unfinished import left, states
from lra.runner import resume
from lra.runner.run import recorded
from lra.settings import build, compose
from lra.train.fit import Fit, fit
from lra.train.state import State, packed, unpacked
from lra.train.trainee import Trainee
from tests.help import composed, tiny
from tests.help.few import others_slow, sequence_models

MODELS = sequence_models()
WORDS = ("measure.enabled=false", "size.dropout=0.1", "size.attention_dropout=0.1", "train.steps=7", "threads=1")
# Of a record that was made in two goes: when, where and how long, and the names that follow from that.
OTHERWISE = {
    "run_id", "started_utc", "wall_seconds", "training.seconds", "training.examples_per_second",
    "training.tokens_per_second", "training.core_seconds", "training.pace", "curve.seconds", "curve.core_seconds",
    "contract.seconds", "machine.load_average", "checkpoint", "predictions.file", "digest", "segments", "cost",
}  # fmt: skip


OFTEN = ((".json", "cut"), (".safetensors", "changed"))


class Saver:
    """Keeps every state, as it comes back from disk."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}

    def wanted(self) -> bool:
        return True

    def keep(self, state: State) -> None:
        facts = json.loads(json.dumps(state.facts, allow_nan=False))
        self.states.setdefault(state.facts["steps_done"], unpacked(packed(state), facts))

    def held(self) -> Any:
        return nullcontext()


def trainee(settings: Any, exam: Any) -> Trainee:
    seed_everything(settings.seed)
    acc = Alone(torch.device("cpu"), "float32")
    return Trainee(build.model(settings, exam), exam, settings.train, acc, seed=settings.seed)


@pytest.mark.parametrize("model", others_slow(MODELS, ("transformer", "performer", "reformer", "sinkhorn")))
def test_from_any_step_to_the_same_end(tmp_path: Path, model: str) -> None:
    """Before, at and after an evaluation, and in the middle of redrawing: weights, curve and random streams."""
    words = [f"model={model}", *WORDS, "train.accumulate=2", "data.bucket=true"]
    if model in ("performer", "reformer"):
        words.append("model.mixer.redraw=2")
    settings = composed.settings(*tiny.words(tmp_path, *words, "size.depth=1"))
    exam = build.task(settings)
    whole, saver = trainee(settings, exam), Saver()
    out = fit(whole, settings, saver=saver)
    end, drawn = whole.model.state_dict(), torch.rand(3)
    assert sorted(saver.states) == [1, 2, 3, 4, 5, 6, 7]
    for step in (2, 3, 5, 7):
        again = trainee(settings, exam)
        torch.rand(11)  # wherever the streams stand
        went = fit(again, settings, out=Fit(), since=saver.states[step])
        assert all(torch.equal(value, end[name]) for name, value in again.model.state_dict().items()), step
        assert torch.equal(torch.rand(3), drawn)
        for ours, theirs in zip(went.curve, out.curve, strict=True):
            assert {**ours, "seconds": 0, "core_seconds": 0} == {**theirs, "seconds": 0, "core_seconds": 0}
        assert all(torch.equal(went.best_state[k], v) for k, v in out.best_state.items())
        assert (went.best_step, went.best_accuracy, went.best_items) == (
            out.best_step,
            out.best_accuracy,
            out.best_items,
        )
        assert (went.examples, went.tokens, went.positions) == (out.examples, out.tokens, out.positions)
        assert went.seconds >= saver.states[step].facts["seconds"]


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, how: int = signal.SIGTERM) -> None:
    """Send a signal in the middle of a step, once."""
    from lra.train import fit as module

    inner, calls = module.step, []

    def stepped(*given: Any) -> None:
        inner(*given)
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), how)

    monkeypatch.setattr(module, "step", stepped)


def settings_of(tmp_path: Path, *more: str, results: str = "results") -> Any:
    usual = [w for w in tiny.words(tmp_path, "model=performer", *WORDS) if not w.startswith("results_dir")]
    return compose.config([*usual, f"results_dir={tmp_path / results}", *more])


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int = 5, *more: str) -> dict[str, Any]:
    """A run that was told to end in the middle of a step; what is left of it."""
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        assert recorded(settings_of(tmp_path, *more)) is None
    (row,) = left(tmp_path / "results")
    assert not list(store.find(tmp_path / "results"))
    return row


def flat(record: Any) -> dict[str, Any]:
    raw = json.loads(json.dumps(record, default=vars))
    out = {}
    for key, value in raw.items():
        for name, part in value.items() if isinstance(value, dict) else [("", value)]:
            out[f"{key}.{name}" if name else key] = part
    out["curve"] = [{k: v for k, v in point.items() if f"curve.{k}" not in OTHERWISE} for point in raw["curve"]]
    return {k: v for k, v in out.items() if k not in OTHERWISE and k.split(".")[0] not in OTHERWISE}


def answers(tmp_path: Path, record: Any, results: str) -> Any:
    path = next((tmp_path / results).rglob(record.predictions["file"]))
    return {k: v.tolist() for k, v in np.load(path).items()}


def test_the_record_is_that_of_a_run_that_was_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = stopped(tmp_path, monkeypatch)
    assert (row["step"], row["steps"], row["task"], row["model"]) == (5, 7, "listops", "performer")
    two = recorded(settings_of(tmp_path))
    one = recorded(settings_of(tmp_path, results="whole"))
    ours, theirs = flat(two), flat(one)
    assert {k: v for k, v in ours.items() if k != "config.results_dir"} == theirs
    assert answers(tmp_path, two, "results") == answers(tmp_path, one, "whole")
    assert [(s["from"], s["to"]) for s in two.segments] == [(0, 5), (5, 7)] and one.segments == []
    assert two.wall_seconds["total"] > two.wall_seconds["train"] > 0
    assert not list((tmp_path / "results/unfinished").iterdir()), "the record is all that is left"


def test_a_state_before_every_evaluation_and_two_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = stopped(tmp_path, monkeypatch, 7)
    assert [p.name for p in states(row["place"])] == ["state-1-7.json", "state-1-6.json"]


@pytest.mark.parametrize(
    ("which", "harm"),
    [
        pytest.param(which, harm, marks=() if (which, harm) in OFTEN else pytest.mark.slow)
        for which in (".json", ".safetensors")
        for harm in ("cut", "changed", "gone")
    ],
)
def test_a_damaged_state_gives_way_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], which: str, harm: str
) -> None:
    path = states(stopped(tmp_path, monkeypatch)["place"])[0].with_suffix(which)
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if harm == "cut" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert recorded(settings_of(tmp_path)).status == "ok"
    assert "goes on from step 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("code", "code"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("versions", "versions of libraries"), ("name", "processor"), ("threads", "threads"))
        ),
    ],
)
def test_another_machine_or_code_is_refused_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, word: str
) -> None:
    stopped(tmp_path, monkeypatch)
    inner = resume.conditions
    monkeypatch.setattr(resume, "conditions", lambda machine: inner(machine) | {what: "another"})
    with pytest.raises(UserError, match=f"stands at step 5, made with other {word}; resume=anyway"):
        recorded(settings_of(tmp_path))
    assert left(tmp_path / "results")[0]["step"] == 5 and not list(store.find(tmp_path / "results"))
    r = recorded(settings_of(tmp_path, "resume=anyway"))
    assert r.status == "ok" and [s[what] for s in r.segments] == [facts_of(r, what), "another"]
    assert [(s["from"], s["to"]) for s in r.segments] == [(0, 5), (5, 7)]


def facts_of(r: Any, what: str) -> Any:
    return {"code": facts.digest(), "versions": r.versions, "name": r.machine["name"], "threads": 1}[what]


def test_it_can_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path, monkeypatch)
    r = recorded(settings_of(tmp_path, "resume=no"))
    assert r.status == "ok" and r.segments == [] and not list((tmp_path / "results/unfinished").iterdir())


def test_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path, monkeypatch)
    inner = build.task

    def other(settings: Any) -> Any:
        exam = inner(settings)
        exam.fingerprint = lambda: "other"
        return exam

    monkeypatch.setattr("lra.runner.phases.data_facts", lambda exam: {"fingerprint": "other", "items": {"test": 60}})
    with pytest.raises(UserError, match="made with other data"):
        recorded(settings_of(tmp_path))


def test_a_warning_keeps_the_state_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inner = unfinished.write
    monkeypatch.setattr(resume, "write", lambda path, *rest: (seen.append(path.name), inner(path, *rest)))
    kill_at(monkeypatch, 4, signal.SIGUSR1)
    assert recorded(settings_of(tmp_path)).status == "ok"
    assert seen == ["state-1-3.json", "state-1-4.json", "state-1-6.json", "state-1-7.json"]


def test_a_state_is_kept_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inner = unfinished.write
    monkeypatch.setattr(resume, "write", lambda path, *rest: (seen.append(path.name), inner(path, *rest)))
    assert recorded(settings_of(tmp_path, "checkpoint_every=0")).status == "ok"
    assert seen == [f"state-1-{n}.json" for n in range(1, 8)]


def test_a_full_disk_costs_the_state_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(resume, "write", full)
    assert recorded(settings_of(tmp_path)).status == "ok"
    assert "cannot hold the state at step 3 (No space left on device)" in capsys.readouterr().err


def test_a_run_that_gets_no_further_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = stopped(tmp_path, monkeypatch)["place"]
    for _ in range(resume.RESTARTS):  # each is killed before it has made a step
        taken = claim.taken(place, "x", "y")
        taken.stop.set()
        owner = json.loads((place / f"claim.{taken.generation}").read_text())
        (place / f"claim.{taken.generation}").write_text(json.dumps(owner | {"pid": 2**22 + 5}))
    r = recorded(settings_of(tmp_path))
    assert (r.status, r.reason) == ("failed", "taken up 3 times without a step more")
    assert not list((tmp_path / "results/unfinished").iterdir())


def test_one_who_was_overtaken_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused in the middle of its last phase, while another does the run to its end; and before it is at its end."""
    stopped(tmp_path, monkeypatch)
    from lra.runner import phases

    inner, other = phases.keep, []

    def slow(draft: Any) -> None:
        if not other:
            other.append(None)
            (draft.claim.folder / f"released.{draft.claim.generation}").touch()  # its silence was too long
            other.append(recorded(settings_of(tmp_path)))
        inner(draft)

    monkeypatch.setattr(phases, "PHASES", (*phases.PHASES[:-1], slow))
    assert recorded(settings_of(tmp_path)) is None
    (only,) = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    assert only.status == "ok" and only == other[1]
    assert len(list((tmp_path / "results").rglob("*.npz"))) == 1
    assert not list((tmp_path / "results/unfinished").iterdir())


def test_a_run_that_somebody_does_is_refused_and_known_once_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lra.runner.draft import Terms

    place = stopped(tmp_path, monkeypatch)["place"]
    mine = claim.taken(place, "x", "y")
    told: list[dict[str, Any]] = []
    with pytest.raises(UserError, match=f"is being done by process {os.getpid()} on"):
        recorded(settings_of(tmp_path), told.append)
    assert [m["held"]["pid"] for m in told] == [os.getpid()]
    mine.give_up()
    done = recorded(settings_of(tmp_path))
    assert recorded(settings_of(tmp_path), told.append, Terms(shared=True)) == done
    assert told[-1]["known"] and told[-1]["status"] == "ok"
    assert recorded(settings_of(tmp_path)).run_id != done.run_id, "one alone is done as often as it is typed"
    assert recorded(settings_of(tmp_path, "rerun=all"), None, Terms(shared=True)).run_id != done.run_id


def test_a_killed_run_has_its_record_and_goes_on_under_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills from outside says nothing of how far a run had come."""
    from lra.runner.keeper import Watch, concluded
    from lra.settings.schema import Run

    messages: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        recorded(settings_of(tmp_path), messages.append)
    channel = SimpleNamespace(waiting=lambda: messages)
    watch = Watch(SimpleNamespace(code=-9, how=lambda: "was killed", channel=channel), Run())
    watch.listen()
    end = concluded(settings_of(tmp_path), watch)
    failed = store.read(end.path)
    assert end.code == 1 and (failed.status, failed.signal) == ("failed", 9) and failed.steps_done == 3
    r = recorded(settings_of(tmp_path))
    assert r.status == "ok" and r.run_id != failed.run_id and [s["from"] for s in r.segments] == [0, 5]


def test_states_of_other_shapes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign file in the folder is data: one line, and never code."""
    path = states(stopped(tmp_path, monkeypatch)["place"])[0]
    said, content = unfinished.read(path)
    for harm in ({"facts": []}, {"segments": []}, {"draft": 1}, {"fingerprint": None}):
        unfinished.write(path, {k: v for k, v in said.items() if k not in ("tensors", "sha256")} | harm, content)
        if "fingerprint" in harm:
            with pytest.raises(UserError, match="other data"):
                recorded(settings_of(tmp_path))
    other = replace(unpacked(content, {}), tensors={"model.x": torch.zeros(1)})
    unfinished.write(path, {k: v for k, v in said.items() if k not in ("tensors", "sha256")}, packed(other))
    with pytest.raises(UserError, match="does not fit this run"):
        recorded(settings_of(tmp_path))
