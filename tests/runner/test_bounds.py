"""A run that takes more than it may is ended with all that it has started, and its record says why."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lra.machine import memory
from lra.machine.device import resolve_device, resolve_dtype
from lra.machine.heartbeat import PAUSE
from lra.record import store
from lra.runner import bounds, keeper
from lra.runner.bounds import Bounds, bound_of, final
from lra.runner.known import already
from lra.settings import build, compose, identity
from lra.settings.schema import Run
from lra.settings.typed import plain
from tests.help import tiny
from tests.help.made import example
from tests.runner.test_keeper import OFF, nothing_left, only, settings

pytestmark = pytest.mark.usefixtures("warm")

GIB = 2**30


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(bounds.time, "monotonic", lambda: now[0])
    return now


def none() -> list[Any]:
    return []


def test_a_run_without_bounds_may_take_what_it_wants(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "held", lambda *_: 10**15)
    whole = Bounds(Run())
    whole.beat()
    clock[0] += 1e9
    assert whole.broken("train", none) is None


def test_the_time_of_a_run_is_that_in_which_it_was_free(clock: list[float]) -> None:
    run = Bounds(Run(timeout=10.0))
    clock[0] += 8
    run.pause()
    run.pause()
    clock[0] += 100
    assert run.broken("train", none) is None
    run.go_on()
    run.go_on()
    clock[0] += 2
    assert run.broken("train", none) is None
    clock[0] += 0.5
    assert run.broken("train", none) == ("timeout", "ran longer than run.timeout=10 seconds in phase train")
    assert run.broken(None, none) == ("timeout", "ran longer than run.timeout=10 seconds")


def test_no_progress_counts_from_the_last_word(clock: list[float]) -> None:
    run = Bounds(Run(stalled=10.0))
    clock[0] += 1000  # getting data
    assert run.broken(None, none) is None
    run.beat()
    clock[0] += 9
    run.beat()
    clock[0] += 9
    run.pause()
    clock[0] += 9
    assert run.broken("cost", none) is None
    run.go_on()
    clock[0] += 1.5
    assert run.broken("cost", none) == ("failed", "no progress for run.stalled=10 seconds in phase cost")
    assert PAUSE <= 1.0  # the least that run.stalled may be


def test_memory_is_looked_at_now_and_then(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    held, looks = [GIB], []

    def look(processes: Any, more_than: int) -> int:
        looks.append((processes, more_than))
        return held[0]

    monkeypatch.setattr(memory, "held", look)
    run = Bounds(Run(memory_gib=1.0))
    assert run.broken("train", lambda: ["them"]) is None and looks == [(["them"], GIB)]
    held[0] += 1
    assert run.broken("train", none) is None and len(looks) == 1
    clock[0] += bounds.BETWEEN
    words = "its processes held 1.00 GiB in phase train, run.memory_gib=1"
    assert run.broken("train", none) == ("oom", words)


@pytest.mark.parametrize(("status", "name"), [("timeout", "timeout"), ("oom", "memory_gib"), ("failed", "stalled")])
def test_a_record_is_final_only_for_bounds_no_larger(tmp_path: Path, status: str, name: str) -> None:
    free = tiny.config(tmp_path)

    def same(own: float | None, asked: float | None) -> bool:
        r = example(status=status, config={"run": {name: own}})
        return final(r.status, bound_of(r), replace(free, run=replace(free.run, **{name: asked})))

    assert same(60.0, 60.0) and same(60.0, 30.0)
    assert not same(60.0, 61.0) and not same(60.0, None)
    assert same(None, None) == same(None, 5.0) == (status != "timeout")
    old = example(status=status, config={})
    assert final(status, bound_of(old), free) == (status != "timeout")
    for strange in ("x", [1], {name: "many"}, {name: True}, {name: None}):
        assert bound_of(replace(old, config={"run": strange})) is None
    for other in ("ok", "diverged"):
        assert bound_of(replace(old, status=other, config={"run": {name: 1.0}})) is None and final(other, None, free)


def test_a_sweep_knows_a_timeout_where_no_more_time_is_allowed(tmp_path: Path) -> None:
    settings = compose.config(tiny.words(tmp_path, "model=linear", "run.timeout=60"))
    exam, config, device = build.task(settings), plain(settings), resolve_device(settings.device)
    made = {
        "task": "listops", "model": "linear", "row": exam.row, "seed": settings.seed, "status": "timeout",
        "config": identity.portable(config), "config_hash": identity.identity(config), "machine": {"device": device},
        "dtype": resolve_dtype(settings.dtype, device), "data": {"fingerprint": exam.fingerprint()},
    }  # fmt: skip
    store.write(tmp_path / "results", example(**made))
    for asked, known in ((60.0, True), (30.0, True), (90.0, False), (None, False)):
        found = already(replace(settings, run=replace(settings.run, timeout=asked)))
        assert (found is not None) == known, asked


class Hasty(Bounds):
    """A clock that leaps from look to look once the run sleeps, however long this machine takes to get it there."""

    leap = 0.0

    def now(self) -> float:
        return super().now() + self.leap

    def broken(self, phase: str | None, processes: Any) -> tuple[str, str] | None:
        self.leap += 1000.0 if Path("asleep").exists() else 0.0
        return super().broken(phase, processes)


@pytest.mark.parametrize(
    ("word", "deed", "more", "status", "reason"),
    [
        pytest.param(
            "run.timeout=900", "sleep", {"after": 16}, "timeout",
            "longer than run.timeout=900 seconds in phase train", marks=pytest.mark.slow,
        ),
        ("run.stalled=900", "deaf", {"after": 16}, "failed", "no progress for run.stalled=900 seconds in phase train"),
        ("run.memory_gib=1", "hoard", {"after": 16}, "oom", "its processes held"),
        pytest.param(
            "run.stalled=900", "sleep", {"after": 0}, "failed",
            "no progress for run.stalled=900 seconds in phase cost", marks=pytest.mark.slow,
        ),
    ],
    ids=["timeout", "stalled", "memory", "stalled while measured"],
)  # fmt: skip
def test_a_run_is_ended_with_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, deed: str, more: Any, status: str, reason: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keeper, "Bounds", Hasty)
    off = [OFF] if more["after"] else []
    begin = time.monotonic()
    end = keeper.kept(settings(tmp_path, *off, word, "train.steps=40", deed=deed, **more), quiet=True)
    r = only(tmp_path)
    assert (r.status, r.signal, end.code) == (status, None, 1) and reason in r.reason
    assert end.path is not None and store.read(end.path) == r and time.monotonic() - begin < 600
    if more["after"]:
        assert r.curve and r.steps_done >= 3 and r.accuracy_test is None
    assert r.config["run"][word.split("=")[0].split(".")[1]] == float(word.split("=")[1])
    assert nothing_left(tmp_path)


def test_before_there_is_anything_to_record_a_line_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bounds.Bounds, "now", lambda self: time.monotonic() * 1e6)
    end = keeper.kept(compose.config(tiny.words(tmp_path, "model=transformer", "run.timeout=5")), quiet=True)
    assert end.code == 1 and end.path is None and not list((tmp_path / "results").rglob("*.json"))
    line = "lra: ran longer than run.timeout=5 seconds, before there was anything to record"
    assert line in capsys.readouterr().err
