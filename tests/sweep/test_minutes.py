"""`minutes=…`: what is done first, what is left out, and that nothing is lost when time or the process ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lra import ledger
from lra.machine import facts
from lra.measure.cost import Cost, Timing, failure, rates
from lra.record import record, store
from lra.record.unfinished import left
from lra.runner.keeper import End
from lra.settings import compose, identity
from lra.settings.typed import plain
from lra.sweep import estimate, minutes, once
from lra.sweep.callbacks import table
from lra.sweep.job import Job, Row, Skipped
from lra.sweep.launch.local import Local
from lra.sweep.once import Sweep
from tests.help import tiny, warm

OK = {"status": "ok", "train": {"examples_per_second": 100.0}, "inference": {"examples_per_second": 400.0}}
RATES = rates([Timing(0.01, 0.01)] * 3, examples=1, tokens=24)
HERE = {"device": "cpu", "name": "this machine"}


def job(folder: Path, model: str = "transformer", seed: int = 0, task: str = "listops", *more: str) -> Job:
    words = tiny.words(folder, f"model={model}", f"seed={seed}", "budget=quick", *more)
    return Job(tuple(words), None, task, model, seed, " ".join([task, model, f"s{seed}", *more]))


def entry(cfg: Any, status: str = "ok", **facts: Any) -> record.Record:
    """A record of the run that `cfg` describes."""
    config = plain(cfg)
    started, run_id = store.new_id()
    return record.Record(
        **{
            "run_id": run_id, "started_utc": started, "kind": "model", "status": status, "task": cfg.choices.task,
            "model": cfg.choices.model, "budget": cfg.budget, "row": "listops-24", "seed": cfg.seed,
            "config": identity.portable(config), "config_hash": identity.identity(config), "machine": HERE,
            "dtype": "float32", "data": {"items": {"train": 300, "valid": 60, "test": 60}},
        }
        | facts
    )  # fmt: skip


class Known:
    """A launcher whose runs take no time and end ok; what it was asked for."""

    def __init__(self) -> None:
        self.started: list[tuple[str, float | None]] = []
        self.measured, self.ok = 0, True
        self.failed = failure("oom", "out of memory")

    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        cfg = compose.config(job.words)
        self.started.append((job.label, seconds))
        path = store.write(cfg.results_dir, entry(cfg, data={"fingerprint": "f", "items": {"valid": 60, "test": 60}}))
        return End(0, path)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Known:
    """No process is started; a measurement gives OK and is counted."""
    known = Known()

    def attempt(config: dict[str, Any], timeout: float) -> dict[str, Any]:
        known.measured += 1
        return (
            Cost("ok", train=RATES, inference=replace(RATES, examples_per_second=400.0)) if known.ok else known.failed
        )

    monkeypatch.setattr(estimate, "attempt", attempt)
    monkeypatch.setattr(facts, "machine", lambda device: HERE)
    monkeypatch.setattr(estimate, "counted", lambda cfg: {"valid": 60, "test": 60})
    return known


def within(world: Known, jobs: list[Job], count: float) -> list[Row]:
    """The rows of a sweep that has so many minutes."""
    sweep = Sweep(world)
    minutes.within(sweep, jobs, time.monotonic() + 60 * count)
    return sweep.rows


def test_order_of_value(tmp_path: Path) -> None:
    def made(task: str, model: str, seed: int) -> Job:
        return Job((), None, task, model, seed, "")

    jobs = [made(t, m, s) for t in ("listops", "image") for m in ("bigbird", "transformer") for s in (3, 1)]
    assert [(j.seed, j.task, j.model) for j in minutes.by_value(jobs)] == [
        (seed, task, model) for seed in (3, 1) for task in ("listops", "image") for model in ("transformer", "bigbird")
    ]


def test_what_cannot_fit_is_skipped_and_a_shorter_one_later_is_done(
    tmp_path: Path, world: Known, capsys: pytest.CaptureFixture
) -> None:
    """Of 2 minutes 30 s go into starting; 8 examples a step at 100/s, 60 to score every 3 steps at 400/s."""
    rows = within(world, [job(tmp_path, "transformer", 0, "listops", f"train.steps={n}") for n in (9000, 800, 6)], 2)
    assert [r.status for r in rows] == ["skipped", "skipped", "ok"]
    assert rows[0].reason.startswith("training alone needs about 12.5 minutes, ")
    assert rows[1].reason.startswith("it needs about 2.2 minutes, ")  # 30 + 64 + 40 s
    assert "1 ok, 0 not, 2 skipped" in table(rows, "results")
    ((label, seconds),) = world.started
    assert label.endswith("train.steps=6") and 100 < seconds <= 120
    assert "[1/3] listops transformer s0 train.steps=9000: training alone needs" in capsys.readouterr().err


def test_a_skipped_run_is_measured_once(tmp_path: Path, world: Known) -> None:
    long = [job(tmp_path, "transformer", 0, "listops", "train.steps=9000")]
    rows = within(world, long, 2) + within(world, long, 2)
    assert world.measured == 1
    (tmp_path / "out" / "estimates.json").write_text("{")  # cut short: measured anew, not an error
    rows += within(world, long, 2)
    assert world.measured == 2 and [r.status for r in rows] == ["skipped"] * 3


def test_time_that_is_over_needs_no_measurement(tmp_path: Path, world: Known) -> None:
    (row,) = within(world, [job(tmp_path)], 0.1)
    assert world.measured == 0 and row.status == "skipped"


def test_what_is_recorded_is_not_done_again(tmp_path: Path, world: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "known", lambda cfg, shelf: (tmp_path, entry(cfg, accuracy_test=0.5)))
    (row,) = within(world, [job(tmp_path)], 2)
    assert not world.started and row.known and row.accuracy == 0.5


def test_a_run_without_memory_is_begun_because_its_record_comes_soon(tmp_path: Path, world: Known) -> None:
    world.ok = False
    within(world, [job(tmp_path, "transformer", 0, "listops", "train.steps=9000")], 2)
    assert len(world.started) == 1 and not (tmp_path / "out" / "estimates.json").exists()


def expected(tmp_path: Path, *records: record.Record, steps: int = 9000) -> str | None:
    """Why a run of that many steps is skipped with 2 minutes left and these records there; None: it is not."""
    for r in records:
        store.write(tmp_path / "results", r)
    cfg = tiny.config(tmp_path, "model=transformer", f"train.steps={steps}")
    try:
        minutes.allowed(cfg, time.monotonic() + 120, "label")
    except Skipped as why:
        return str(why)
    return None


def test_records_tell_the_time_better_than_a_measurement(tmp_path: Path, world: Known) -> None:
    cfg = tiny.config(tmp_path, "model=transformer", "train.steps=9000")
    interrupted = entry(cfg, "interrupted", reason="stopped", cost=OK | {"train": {"examples_per_second": 50.0}})
    assert expected(tmp_path, interrupted).startswith("training alone needs about 24.5 min") and world.measured == 0
    other = tiny.config(tmp_path, "model=linear")
    faster = entry(other, cost=OK, training={"examples_per_second": 200.0})
    assert expected(tmp_path, faster).startswith("training alone needs about 12.5 min")
    finished = entry(cfg, wall_seconds={"total": 60.0})
    assert expected(tmp_path, finished) is None


def test_records_of_other_machines_tell_nothing(tmp_path: Path, world: Known) -> None:
    cfg = tiny.config(tmp_path, "model=transformer", "train.steps=9000")
    elsewhere = entry(cfg, machine=HERE | {"name": "another"}, wall_seconds={"total": 6.0})
    assert expected(tmp_path, elsewhere).startswith("training alone needs about 12.5 min") and world.measured == 1


def test_a_run_is_cut_off_when_its_time_is_over(tmp_path: Path) -> None:
    """Told to stop; that one which does not is killed: tests/runner/test_keeper.py."""
    assert Local().launch(job(tmp_path), 0.1) == End(130, None, True)
    assert not list(store.find(tmp_path / "results"))


def cell(task: str, model: str, accuracy: float, **other: Any) -> dict[str, Any]:
    base = {"budget": "paper", "machine": "GPU", "row": task, "task": task, "model": model, "accuracy": accuracy}
    return base | {"low": accuracy - 0.01, "high": accuracy + 0.01, "seeds": 1} | other


def test_comparison_with_published_cells() -> None:
    ours = pd.DataFrame(
        [
            cell("listops", "transformer", 0.3737),
            cell("listops", "mine", 0.5),
            cell("listops", "linear", 0.2, budget="quick"),
            cell("text", "linear", 0.2, row="text-512"),
            cell("pathx", "mega_block", 0.9, budget="published"),
        ]
    )
    lines = ledger.comparison(ours, ledger.load(tiny.ROOT / "results" / "published")).splitlines()
    expected = ["paper listops mine", "paper listops transformer", "published pathx mega_block"]
    assert [" ".join(line.split()[:3]) for line in lines[3:]] == expected
    assert lines[5].split()[-3:] == ["-", "-", "97.98"]
    assert lines[3].split()[-3:] == ["-", "-", "-"]
    assert "36.37" in lines[4] and "+1.00" in lines[4] and " to " in lines[4]
    assert "nothing to compare" in ledger.comparison(ours.iloc[:0], ledger.load(tiny.ROOT / "results" / "published"))


def test_paper_sweep_is_the_official_setting_in_order_of_value() -> None:
    done = tiny.lra("sweep=paper", "minutes=1e-3", "--cfg", "all")
    assert done.returncode == 0, done.stderr
    assert "\nbudget: paper\n" in done.stdout and "task: listops,image,pathfinder,text" in done.stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["minutes=5"], ["minutes: is for a sweep"]),
        pytest.param(["-m", "minutes=-1"], ["minutes: -1"], marks=pytest.mark.slow),
        (["-m", "minutes=0"], ["minutes: 0"]),
    ],
)
def test_minutes_that_cannot_be(tmp_path: Path, words: list[str], parts: list[str]) -> None:
    done = tiny.lra(*words, *tiny.words(tmp_path))
    assert done.returncode == 2 and all(part in done.stderr.splitlines()[-1] for part in parts), done.stderr


def waited(condition: Any, seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def test_a_run_ends_when_its_sweep_is_killed(tmp_path: Path) -> None:
    """Else it would go on beside the next sweep, which wants the same run."""
    words = job(tmp_path, "transformer", 0, "listops", "train.steps=100000", "measure.enabled=false").words
    code = "from lra.sweep.job import Job; from lra.sweep.launch.local import Local; "
    code += f"Local().launch(Job({words!r}, None, 'listops', 'transformer', 0, ''))"
    command = [sys.executable, "-m", "tests.help.program", code]
    parent = warm.Asked(command, env=tiny.environment(), stderr=subprocess.PIPE, text=True, cwd=tiny.ROOT)
    for line in parent.stderr:
        if line.startswith("step "):
            break
    parent.kill()
    parent.wait()
    (row,) = waited(lambda: left(tmp_path / "results"))
    released = row["place"] / "released.1"
    assert waited(released.exists) and row["step"] > 0 and not list(store.find(tmp_path / "results"))


@pytest.mark.slow
def test_killed_resumed_cut_off(tmp_path: Path) -> None:
    """The whole of it as typed: kill -9 in the second run; typed again, the first is known, the second is cut off."""
    usual = [w for w in tiny.words(tmp_path, "model=transformer") if not w.startswith("train.steps")]
    command = ["-m", *usual, "train.steps=6,100000"]
    whole = [sys.executable, "-m", "lra", *command, "minutes=8"]
    first = subprocess.Popen(whole, env=tiny.environment(), stderr=subprocess.PIPE, text=True)
    for line in first.stderr:
        if "train.steps=100000" in line:
            break
    first.kill()
    first.wait()
    kept = tmp_path / "out" / "estimates.json"
    rates = json.loads(kept.read_text())
    fast = {"train": {"examples_per_second": 1e9}, "inference": {"examples_per_second": 1e9}}
    kept.write_text(json.dumps(dict.fromkeys(rates, fast)))  # so that it is begun
    done = tiny.lra(*command, "minutes=1.5")
    assert done.returncode == 1 and "1 ok, 1 not" in done.stdout, done.stdout + done.stderr
    assert "recorded before" in done.stdout and "interrupted" in done.stdout
    assert [row["step"] > 0 for row in left(tmp_path / "results")] == [True]


@pytest.mark.slow
def test_a_model_of_ones_own_is_in_every_sweep(tmp_path: Path) -> None:
    """Asked cheaply: with no time at all a sweep only names what it would do."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "of_mine.yaml").write_text("# @package _global_\nmodel: {mixer: null}\n")
    done = tiny.lra(f"--config-dir={tmp_path}", "sweep=all", "task=listops", "minutes=1e-4", f"results_dir={tmp_path}")
    assert done.returncode == 0 and "listops of_mine s0: skipped: starting alone" in done.stdout, done.stderr
