"""A sweep on a cluster: what becomes of jobs that end, vanish, are cancelled or take too long, with an engine that is
told how; and with the real ones, where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.errors import UserError
from lra.record import store
from lra.record.claim import taken
from lra.record.unfinished import left, write
from lra.settings import build, compose
from lra.sweep import spread as module
from lra.sweep.job import Job
from lra.sweep.launch import there
from lra.sweep.launch.ray import Ray
from lra.sweep.once import Sweep, place_of
from lra.sweep.spread import Ticket, spread
from tests.help import tiny
from tests.help.made import example

Act = Callable[[Job, int], tuple[str, int | None]]  # what a job does in its n-th life: how it ended, its exit code


class Engine:
    pause, minutes = 0.0, None

    def __init__(self, act: Act) -> None:
        self.act, self.lives, self.submitted = act, {}, []

    def words(self, job: Job) -> tuple[str, ...]:
        return there.with_threads(job.words, 1)

    def submit(self, runs: Sequence[tuple[Job, float]]) -> list[Ticket]:
        self.submitted.append([(job.label, minutes) for job, minutes in runs])
        return [Ticket(f"{len(self.submitted)}_{i}", job, minutes) for i, (job, minutes) in enumerate(runs)]

    def look(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            if ticket.how is None:
                life = self.lives[ticket.job.label] = self.lives.get(ticket.job.label, 0) + 1
                ticket.how, ticket.code = self.act(ticket.job, life)

    def leave(self, tickets: Sequence[Ticket]) -> str:
        return f"{len(tickets)} left"


def job(tmp_path: Path, seed: int = 0, *more: str) -> Job:
    words = (*tiny.words(tmp_path, "model=linear", *more), f"seed={seed}")
    return Job(words, None, "listops", "linear", seed, f"s{seed}")


def settings(job: Job) -> Any:
    return compose.config(there.with_threads(job.words, 1))


def recorded(job: Job, **values: Any) -> None:
    from lra.settings import identity
    from lra.settings.typed import plain

    cfg = settings(job)
    exam = build.task(cfg)
    config = identity.portable(plain(cfg))
    machine = {"device": "cpu", "name": "x", "threads": 1}
    made = example(task="listops", model="linear", row=exam.row, seed=cfg.seed, config=config, dtype="float32",
                   machine=machine, data={"fingerprint": exam.fingerprint()}, **values)  # fmt: skip
    store.write(cfg.results_dir, made)


def step(job: Job, number: int) -> None:
    place = place_of(settings(job))
    place.mkdir(parents=True, exist_ok=True)
    write(place / f"state-1-{number}.json", {"facts": {"steps_done": number}}, b"")


def rows(engine: Engine, *jobs: Job) -> list[tuple[str, str | None]]:
    sweep = Sweep(None)
    spread(sweep, engine, list(jobs))
    return [(row.status, row.reason) for row in sweep.rows]


def test_each_has_its_record_and_what_is_known_is_not_handed_over(tmp_path: Path) -> None:
    def act(job: Job, life: int) -> tuple[str, int | None]:
        recorded(job, accuracy_test=0.5, items_test=60)
        return "COMPLETED", 0

    engine = Engine(act)
    jobs = [job(tmp_path, seed) for seed in range(3)]
    recorded(jobs[1], accuracy_test=0.5, items_test=60)
    assert rows(engine, *jobs) == [("ok", None)] * 3
    assert [[label for label, _ in part] for part in engine.submitted] == [["s0", "s2"]]


def test_one_that_comes_further_is_handed_over_again_and_one_that_does_not_has_failed(tmp_path: Path) -> None:
    def act(job: Job, life: int) -> tuple[str, int | None]:
        if job.label == "s1":
            step(job, min(life, 3))
        if job.label == "s1" and life == 5:
            recorded(job, accuracy_test=0.5, items_test=60)
        return "NODE_FAIL", None

    engine = Engine(act)
    (status, reason), second = rows(engine, job(tmp_path, 0), job(tmp_path, 1))
    assert status == "failed" and "ended (NODE_FAIL) without a record, 3 times; its log:" in reason
    assert second == ("ok", None) and engine.lives == {"s0": 3, "s1": 5}


def test_time_that_was_too_short_is_doubled(tmp_path: Path) -> None:
    def act(job: Job, life: int) -> tuple[str, int | None]:
        step(job, life)
        if life == 4:
            recorded(job, accuracy_test=0.5, items_test=60)
        return "TIMEOUT", None

    engine = Engine(act)
    assert rows(engine, job(tmp_path)) == [("ok", None)]
    assert [minutes for part in engine.submitted for _, minutes in part] == [60.0, 120.0, 240.0, 480.0]


def test_a_run_gets_three_times_what_records_say(tmp_path: Path) -> None:
    recorded(job(tmp_path, 7), accuracy_test=0.5, items_test=60, wall_seconds={"total": 1200.0})
    engine = Engine(lambda job, life: ("CANCELLED", None))
    rows(engine, job(tmp_path))
    assert engine.submitted == [[("s0", 60.0)]]


@pytest.mark.parametrize("coded", [True, False])
def test_cancelled_refused_and_failed_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coded: bool) -> None:
    log = tmp_path / "log"
    log.write_text("something\nlra: seed: -1 is not allowed\nslurmstepd: done\n")

    def act(job: Job, life: int) -> tuple[str, int | None]:
        if job.label == "s0":
            return "CANCELLED", None
        if job.label == "s1":
            return "COMPLETED", (2 if coded else None)
        recorded(job, status="failed", reason="RuntimeError: as planned", dirty=True)
        return "COMPLETED", 1

    inner = Engine.submit

    def submit(self: Engine, runs: Any) -> list[Ticket]:
        return [setattr(t, "log", str(log)) or t for t in inner(self, runs)]

    monkeypatch.setattr(Engine, "submit", submit)
    engine = Engine(act)
    assert rows(engine, *(job(tmp_path, seed) for seed in range(3))) == [
        ("interrupted", "job 1_0 was cancelled; goes on when the same is typed again"),
        ("refused", "seed: -1 is not allowed"),
        ("failed", "RuntimeError: as planned"),
    ]
    assert max(engine.lives.values()) == 1


def test_what_somebody_else_does_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = job(tmp_path)
    claim = taken(place_of(settings(mine)), "r", "t")
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            recorded(mine, accuracy_test=0.5, items_test=60)
            claim.clear()

    monkeypatch.setattr(module.time, "sleep", sleep)
    engine = Engine(lambda job, life: ("COMPLETED", 0))
    assert rows(engine, mine) == [("ok", None)] and not engine.submitted


def test_a_sweep_that_is_stopped_says_what_becomes_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", stop)
    sweep = Sweep(None)
    with pytest.raises(KeyboardInterrupt):
        spread(sweep, Engine(lambda job, life: ("COMPLETED", 0)), [job(tmp_path)])
    assert [row.status for row in sweep.rows] == ["interrupted"] and "1 left" in capsys.readouterr().err


def test_a_bad_word_costs_its_own_row(tmp_path: Path) -> None:
    def act(job: Job, life: int) -> tuple[str, int | None]:
        recorded(job, accuracy_test=0.5, items_test=60)
        return "COMPLETED", 0

    (status, reason), second = rows(Engine(act), job(tmp_path, 0, "train.steps=-1"), job(tmp_path, 1))
    assert status == "refused" and "train.steps" in reason and second == ("ok", None)


def test_threads_are_those_that_the_cluster_gives_unless_asked_for() -> None:
    assert there.with_threads(("a=1",), 4) == ("a=1", "threads=4")
    assert there.with_threads(("threads=2",), 4) == ("threads=2",) and there.with_threads(("a=1",), None) == ("a=1",)


def test_a_missing_engine_is_one_line(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name, module_ in (("slurm", "submitit"), ("ray", "ray")):
        (hidden / f"{module_}.py").write_text("raise ImportError('hidden')\n")
        done = tiny.lra("-m", *tiny.words(tmp_path), f"launcher={name}", PYTHONPATH=f"{hidden}:{tiny.ROOT}")
        assert done.returncode == 2 and f"launcher: {name} needs" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.parametrize("error", [ConnectionError, ValueError, RuntimeError])
def test_a_cluster_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def init(**_: Any) -> None:
        raise error("no such address\nand more")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(UserError, match=r"^launcher: Ray at far:6379: no such address$"):
        Ray("far:6379").submit([])


# The real ones.

WORDS = ("task=listops", "task.sizes=[300,60,60]", "task.max_len=24", "task.min_length=3", "measure.enabled=false")


def typed(folder: Path, *words: str) -> list[str]:
    places = [f"results_dir={folder / 'r'}", f"output_dir={folder / 'o'}", f"data_dir={folder / 'd'}"]
    return [sys.executable, "-m", "lra", "-m", *WORDS, *places, *words]


def essence(folder: Path) -> dict[tuple[str, int], Any]:
    found = [r for _, r in store.find(folder / "r") if r.kind == "model" and r.status == "ok"]
    assert len(found) == len({(r.model, r.seed) for r in found})
    return {(r.model, r.seed): (r.predictions["sha256"], r.loss_test, r.steps_done) for r in found}


def swept(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        typed(folder, *words), cwd=tiny.ROOT, env=tiny.environment(), capture_output=True, text=True, timeout=1200
    )


@pytest.fixture
def slurm() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -e '.[slurm]'")
    if shutil.which("srun") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no Slurm answers here")


SMALL = ("model=linear,local", "seed=0,1,2,3", "train.steps=12", "train.eval_every=6", "size.dim=16")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["slurm", "ray"])
def test_the_same_records_as_here(tmp_path: Path, engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "slurm":
        request.getfixturevalue("slurm")
    else:
        pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    done = swept(tmp_path / engine, *SMALL, f"launcher={engine}", "launcher.pause=2")
    assert done.returncode == 0 and "8 runs, 8 ok, 0 not" in done.stdout, done.stdout + done.stderr
    assert swept(tmp_path / "here", *SMALL, "threads=1").returncode == 0
    assert essence(tmp_path / engine) == essence(tmp_path / "here")


LONG = ("model=performer", "seed=0", "size.dropout=0.1", "train.eval_every=50", "threads=1", "size.dim=16")


def until(condition: Callable[[], Any], seconds: float = 300.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on_where_it_was(tmp_path: Path, slurm: None) -> None:
    """Needs two partitions, of which `high` preempts `low` by requeueing."""
    if "high" not in subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True).stdout.split():
        pytest.skip("no partition named high")
    there_, words = tmp_path / "slurm", (*LONG, "train.steps=2000")
    sweep = subprocess.Popen(
        typed(there_, *words, "launcher=slurm", "launcher.pause=2"), cwd=tiny.ROOT, env=tiny.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: [row for row in left(there_ / "r") if row["step"] >= 100])
    cores = str(os.cpu_count())
    subprocess.run(["sbatch", "-p", "high", "-n", cores, "--wrap", "sleep 5", "-o", "/dev/null"], check=True)
    said = sweep.communicate(timeout=1200)[0]
    assert sweep.returncode == 0, said
    (r,) = [r for _, r in store.find(there_ / "r") if r.kind == "model"]
    assert len(r.segments) == 2 and said.count(": job ") == 1, "it was Slurm that started it again"
    assert swept(tmp_path / "here", *words).returncode == 0
    assert essence(there_) == essence(tmp_path / "here")


@pytest.mark.slow
def test_a_job_that_is_cancelled_is_interrupted_and_a_later_sweep_goes_on(tmp_path: Path, slurm: None) -> None:
    words = (*LONG, "train.steps=2000")
    sweep = subprocess.Popen(
        typed(tmp_path, *words, "launcher=slurm", "launcher.pause=2"), cwd=tiny.ROOT, env=tiny.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    job_ = next(line for line in sweep.stderr if ": job " in line).split()[-1]
    until(lambda: [row for row in left(tmp_path / "r") if row["step"] >= 50])
    subprocess.run(["scancel", job_], check=True)
    out = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 1 and "was cancelled; goes on when the same is typed again" in out
    assert not [r for _, r in store.find(tmp_path / "r") if r.kind == "model"]
    assert swept(tmp_path, *words).returncode == 0
    (r,) = [r for _, r in store.find(tmp_path / "r") if r.kind == "model"]
    assert len(r.segments) == 2 and r.segments[1]["from"] >= 50


@pytest.mark.slow
def test_a_worker_of_rays_that_is_killed_costs_no_run(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    words = (*LONG[:1], "seed=0,1", *LONG[2:], "train.steps=1000")
    sweep = subprocess.Popen(
        typed(tmp_path / "ray", *words, "launcher=ray"), cwd=tiny.ROOT, env=tiny.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: [row for row in left(tmp_path / "ray/r") if row["step"] >= 50])
    claims = [json.loads(p.read_text()) for p in (tmp_path / "ray/r/unfinished").glob("*/claim.1")]
    keeper = int(Path(f"/proc/{claims[0]['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    said = sweep.communicate(timeout=1200)[0]
    assert sweep.returncode == 0, said
    assert swept(tmp_path / "here", *words).returncode == 0
    assert essence(tmp_path / "ray") == essence(tmp_path / "here")


def test_an_engine_that_takes_nothing_is_one_line(tmp_path: Path) -> None:
    class Full(Engine):
        def submit(self, runs: Any) -> list[Ticket]:
            raise UserError("launcher: slurm does not take the jobs: QOSMaxSubmitJobPerUserLimit")

    with pytest.raises(UserError, match="QOSMax"):
        rows(Full(lambda job, life: ("COMPLETED", 0)), job(tmp_path))
