"""Runs side by side: as many at once as asked for, each told whom it shares the machine with, all ended together."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.errors import UserError
from lra.machine import company
from lra.machine.signals import interrupting
from lra.record import store
from lra.runner import keeper
from lra.runner.keeper import GOING, End, Watch
from lra.settings import compose
from lra.settings.schema import Run
from lra.settings.words import as_typed
from lra.sweep import callbacks
from lra.sweep.crew import side_by_side
from lra.sweep.job import Job, asked
from lra.sweep.launch import local
from lra.sweep.launch.local import Local
from lra.sweep.once import Sweep
from tests.help import tiny


class Tree:
    """What a keeper does with the processes of a run."""

    token, code = "mine", None

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.channel = SimpleNamespace(send=self.said.append, waiting=list)

    def __getattr__(self, name: str) -> Any:
        return lambda: self.said.append(name)


def watch(label: str = "a run", lease: Any = None) -> Watch:
    return Watch(Tree(), Run(timeout=100.0), lease, label)


def test_as_many_at_once_as_asked_for_and_in_order() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def do(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return -number

    assert side_by_side(3, do, [(n,) for n in range(9)]) == [-n for n in range(9)] and most[0] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_no_other_is_begun(number: int) -> None:
    begun, keeps = [], [watch(), watch()]

    def do(which: int) -> None:
        begun.append(which)
        with GOING.with_it(keeps[which]):
            while len(begun) < 2:
                time.sleep(0.01)
            if which == 1:
                os.kill(os.getpid(), number)
            while keeps[which].told is None:
                time.sleep(0.01)
        raise KeyboardInterrupt

    before = signal.signal(number, signal.default_int_handler)  # in a background job Ctrl-C is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side(2, do, [(n,) for n in range(5)])
    finally:
        signal.signal(number, before)
    assert sorted(begun) == [0, 1] and all(k.tree.said == ["terminate"] for k in keeps)
    assert not GOING.told and not GOING.watches


def test_one_that_was_ended_ends_the_others() -> None:
    other = watch()

    def do(which: int) -> None:
        if which == 0:
            while not GOING.watches:
                time.sleep(0.01)
            raise KeyboardInterrupt
        with GOING.with_it(other):
            end = time.monotonic() + 20
            while other.told is None and time.monotonic() < end:
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(2, do, [(0,), (1,)])
    assert other.told is not None


def test_a_run_that_begins_while_all_end_is_ended() -> None:
    late = watch()
    GOING.end()
    try:
        with GOING.with_it(late):
            assert late.told is not None
    finally:
        GOING.told = False


def test_a_run_learns_whom_it_shares_the_machine_with(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = watch("one"), watch("two"), watch("three")
    with GOING.with_it(one):
        one.yield_to_others()
        with GOING.with_it(two):
            one.yield_to_others()
            one.yield_to_others()
        with GOING.with_it(three):
            one.yield_to_others()
            three.yield_to_others()
    assert one.tree.said == [{"beside": ["two"]}, {"beside": ["three"]}] and three.tree.said == [{"beside": ["one"]}]
    monkeypatch.setattr(company, "shared_with", [])
    for message in (*one.tree.said, {"beside": ["two"]}):
        company.heed(message)
    assert company.shared_with == ["two", "three"]


def test_a_run_stands_still_while_another_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, taken = [1000.0], [False]
    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])
    asked: list[str] = []
    lease = SimpleNamespace(elsewhere=lambda token: asked.append(token) or taken[0])
    run = watch(lease=lease)

    def tick(seconds: float, held: bool) -> None:
        now[0] += seconds
        taken[0] = held
        run.yield_to_others()

    for seconds, held in ((1, False), (1, True), (20, True), (10, False), (1, False)):
        tick(seconds, held)
    assert run.tree.said == ["stop", "go_on", {"stood": 30.0}] and set(asked) == {"mine"}
    assert run.bounds.now() == 1003.0
    run.tree.said.clear()
    tick(1, True)
    tick(keeper.BREATH + 1, True)  # its claim is counted meanwhile
    tick(0.2, True)
    assert run.tree.said == ["stop", "go_on", {"stood": keeper.BREATH + 1}, "stop"]
    run.end()  # one that is told to end has to hear it
    tick(1, True)
    assert run.tree.said[-2:] == ["go_on", {"stood": 1.0}]


def test_the_clock_of_training_does_not_see_that(monkeypatch: pytest.MonkeyPatch) -> None:
    from lra.train.fit import Clock, Fit

    now = [50.0]
    monkeypatch.setattr(company, "_stood", [0.0])
    monkeypatch.setattr(company.time, "perf_counter", lambda: now[0])
    out = Fit(seconds=3.0)
    clock = Clock(out)
    now[0] += 10
    company.heed({"stood": 6.0})
    clock.read()
    assert out.seconds == 7.0
    with clock.stopped():
        now[0] += 5
        company.heed({"stood": 5.0})
    now[0] += 1
    clock.read()
    assert out.seconds == 8.0


def test_the_cores_are_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    plain, asked = tiny.config(tmp_path), tiny.config(tmp_path, "threads=5")
    assert Local().shared(plain) is plain
    for workers, threads in ((2, 4), (3, 2), (16, 1)):
        found = Local(workers).shared(plain)
        assert (found.workers, found.threads) == (workers, threads)
    assert Local(2).shared(asked).threads == 5 and Local(devices=(0, 1)).shared(plain).threads == 4


def test_every_device_has_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launcher = Local(devices=[0, 2])
    assert launcher.workers == 2
    with launcher.place() as a, launcher.place() as b:
        assert {a["CUDA_VISIBLE_DEVICES"], b["CUDA_VISIBLE_DEVICES"]} == {"0", "2"} and launcher.free.empty()
    assert not launcher.free.empty()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,GPU-x")
    assert local.visible([2, 0]) == ["GPU-x", "5"]
    with pytest.raises(ValueError, match="more than CUDA_VISIBLE_DEVICES"):
        Local(devices=[3])


class Slow:
    """A launcher of two at once, whose runs take a moment and are the same experiments with other seeds."""

    workers = 2

    def __init__(self) -> None:
        self.together, self.lock, self.now = 0, threading.Lock(), 0

    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        from tests.sweep.test_minutes import entry

        with self.lock:
            self.now += 1
            self.together = max(self.together, self.now)
        cfg = compose.config(job.words)
        path = store.write(cfg.results_dir, entry(cfg, accuracy_test=job.seed / 10))
        time.sleep(0.2)
        with self.lock:
            self.now -= 1
        return End(0, path)


def test_a_sweep_of_two_at_once_has_each_row_once_and_in_order(tmp_path: Path) -> None:
    launcher = Slow()
    sweep = Sweep(launcher)
    words = tiny.words(tmp_path, "model=linear", "budget=quick")
    sweep.all([Job((*words, f"seed={n}"), None, "listops", "linear", n, f"s{n}") for n in range(4)])
    assert [(r.job.seed, r.accuracy, r.status) for r in sweep.rows] == [(n, n / 10, "ok") for n in range(4)]
    assert launcher.together == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["devices=[0,0]"], r"devices: \[0, 0\] is not a list of GPUs, each once"),
        (["devices=[-1]"], "devices"),
        (["devices=[0]", "workers=2"], "workers: 2 is not allowed beside devices"),
        (["devices=[0]", "device=cpu"], "device=cpu has workers=N"),
        (["workers=0"], "workers: 0"),
        (["workers=2", "sweep=cost"], "not for sweep=cost"),
    ],
)
def test_what_cannot_be_shared_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose.config(words)


def test_several_devices_are_one_list() -> None:
    assert as_typed(["-m", "devices=0,1", "seed=0,1"]) == ["-m", "devices=[0,1]", "seed=0,1"]


class Ended:
    """A launcher in whose second run the sweep is told to end."""

    def __init__(self, number: int) -> None:
        self.number, self.begun = number, 0

    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        self.begun += 1
        if self.begun == 2:
            os.kill(os.getpid(), self.number)
            time.sleep(20)
        return End(2, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_ended_shows_its_table_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    launcher = Ended(number)
    monkeypatch.setattr(callbacks.build, "instantiate", lambda *_: launcher)
    runs = callbacks.Runs()
    runs.on_multirun_start(None)
    words = tiny.words(tmp_path, "model=linear", "budget=quick")
    runs.jobs = [Job((*words, f"seed={n}"), None, "listops", "linear", n, f"s{n}") for n in range(3)]
    config = SimpleNamespace(
        launcher=None, minutes=None, dry_run=False, results_dir=str(tmp_path), budget="quick", sweep=None
    )
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            runs.end(config)
    finally:
        signal.signal(number, before)
    out = capsys.readouterr().out
    assert "s0: refused: exit code 2" in out and "s1: interrupted: goes on when" in out and launcher.begun == 2
    assert not (tmp_path / "sweeps").exists()


def test_only_the_first_ending_interrupts() -> None:
    by = interrupting()
    with pytest.raises(KeyboardInterrupt):
        by(15, None)
    by(15, None)


def test_a_run_that_is_over_leaves_its_lease() -> None:
    lease, over = SimpleNamespace(closed=False), watch()
    lease.close = lambda: setattr(lease, "closed", True)
    over.lease, over.tree.code = lease, 0
    over.tree.wait = lambda seconds: 0
    over.tree.channel.gone = SimpleNamespace(wait=lambda seconds: None)
    over.wait(None)
    assert lease.closed


@pytest.mark.parametrize("ended", [None, "told", "path"])
def test_a_run_that_ends_already_breaks_no_bound(ended: str | None) -> None:
    over = watch()
    over.bounds = SimpleNamespace(broken=lambda phase, processes: ("failed", "too long"))
    over.tree.processes = None
    if ended:
        setattr(over, ended, Path("x") if ended == "path" else 1.0)
    over.look()
    assert (over.broken is None) == (ended is not None)


def test_what_others_call_a_run_names_no_place() -> None:
    """It stands in their records, as those with whom they shared the machine."""
    typed = ["task=text", "model=linear", "task.path=/data/of/me/imdb", "task.data_dir=/data", "threads=1", "seed=0"]
    runtime = SimpleNamespace(choices=SimpleNamespace(task="text", model="linear", budget="quick"), config_sources=[])
    hydra = SimpleNamespace(runtime=runtime, overrides=SimpleNamespace(task=[*typed, "results_dir=/data/results"]))
    job = asked(SimpleNamespace(sweep=None, seed=0, dry_run=False), hydra)
    assert job.label == "text linear s0 task.path=imdb threads=1" and typed[2] in job.words
    assert job.also(["checkpoint=/data/kept/state-1"]).label.endswith("threads=1 checkpoint=state-1")
