"""Whoever starts a run sees to its record, however the run's process ends."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lra.machine.alive import is_gone, me
from lra.measure.alone import measure
from lra.record import reserve, store
from lra.record.record import Record
from lra.record.unfinished import left
from lra.runner import draft, keeper, phases, rescue
from lra.runner.known import Entry, code, concluded
from lra.runner.run import recorded
from lra.settings import build, compose
from lra.settings.typed import plain
from tests.help import tiny

pytestmark = pytest.mark.usefixtures("warm")

OFF = "measure.enabled=false"
slow = partial(pytest.param, marks=pytest.mark.slow)


def settings(tmp_path: Path, *words: str, mixer: str = "Deadly", **options: Any) -> Any:
    found = compose.config(tiny.words(tmp_path, "model=transformer", *words))
    node = {"_target_": f"tests.help.deadly.{mixer}", "_partial_": True, **options}
    return replace(found, model={**found.model, "mixer": node})


def only(tmp_path: Path) -> Record:
    (found,) = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    return found


def stopped_at(tmp_path: Path) -> list[int]:
    return [row["step"] for row in left(tmp_path / "results")]


def nothing_left(tmp_path: Path) -> bool:
    return not list((tmp_path / "results").rglob(".*"))


@pytest.mark.parametrize(
    ("deed", "status", "number", "words"),
    [
        ("exit", "failed", None, "ended with exit code 7 in phase train"),
        slow("leave", "failed", None, "ended with exit code 3 in phase train"),
        ("crash", "failed", 11, "was killed by signal 11 (Segmentation fault) in phase train"),
        slow("kill", "failed", 9, "was killed by signal 9 (Killed) in phase train"),
        ("fail", "failed", None, "RuntimeError: as planned"),
        slow("flood", "ok", None, None),
    ],
)
def test_every_end_is_a_record(
    tmp_path: Path, deed: str, status: str, number: int | None, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))
    end = keeper.kept(settings(tmp_path, OFF, "train.steps=40", deed=deed, after=16), quiet=True)
    r = only(tmp_path)
    assert (r.status, r.signal, end.code) == (status, number, int(status != "ok"))
    assert words is None or words in r.reason
    assert end.path is not None and store.read(end.path) == r
    if status == "failed":
        assert r.accuracy_test is None and r.curve and r.steps_done >= 3 and r.machine["threads"] and r.parameters
    assert nothing_left(tmp_path)


def test_a_repetition_is_made_only_where_it_may_end_otherwise(tmp_path: Path) -> None:
    def failed(**values: Any) -> Entry:
        base = {"run_id": "a", "started_utc": "", "kind": "model", "task": "t", "model": "m", "budget": "quick"}
        base |= {"row": "t", "seed": 0, "config": {}, "config_hash": "0", "commit": "c", "dirty": False}
        return Entry.of(tmp_path, Record(**{**base, "status": "failed", **values}))

    here = code("c", False, {"torch": "2"})
    assert concluded(failed(versions={"torch": "2"}, reason="RuntimeError: x"), here)
    assert concluded(failed(versions={"torch": "2"}, signal=11), here)
    for other in ({"signal": 9}, {"signal": 15}, {"commit": "d"}, {"dirty": True}, {"versions": {"torch": "1"}}):
        assert not concluded(failed(**{"versions": {"torch": "2"}, **other}), here), other
    assert not concluded(failed(status="interrupted"), here) and not concluded(failed(status="timeout"), here)
    edited = failed(versions={"torch": "2"}, dirty=True)
    assert not concluded(edited, code("c", True, {"torch": "2"})), "edited code is like no other"
    for status in ("ok", "oom", "diverged"):
        assert concluded(failed(status=status, commit="other"), here)


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        slow("sleep", signal.SIGINT),
        ("sleep", signal.SIGKILL),
        slow("swallow", signal.SIGTERM),
        ("deaf", signal.SIGTERM),
    ],
)
def test_a_run_that_hangs_ends_with_its_keeper(tmp_path: Path, deed: str, how: int) -> None:
    """Told to end it leaves what it had kept, and no record; where the keeper itself is killed, nothing goes on."""
    wanted = plain(settings(tmp_path, OFF, deed=deed, after=4))
    script = (
        "import json, sys; from lra.runner import keeper; from lra.settings.typed import typed\n"
        "keeper.GRACE = 1.0\n"
        "raise SystemExit(keeper.kept(typed(json.loads(sys.stdin.readline())), quiet=True).code)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.help.program", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=tiny.environment(),
    )  # fmt: skip
    process.stdin.write(json.dumps(wanted) + "\n")
    process.stdin.flush()
    end = time.monotonic() + 120
    while not (tmp_path / "asleep").exists():
        assert time.monotonic() < end and process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    children = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    time.sleep(0.2)
    process.send_signal(how)
    process.wait(60)
    if how != signal.SIGKILL:
        assert process.returncode == 130
    end = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)
    assert not list(store.find(tmp_path / "results")) and stopped_at(tmp_path) == [3]


@pytest.mark.parametrize(
    ("mixer", "options", "status"),
    [("Deadly", {"deed": "chat"}, "ok"), slow("Deadly", {"deed": "flood"}, "ok"), slow("Forgetful", {}, "ok")],
)
def test_what_a_model_prints_or_reads_does_not_reach_the_channel(
    tmp_path: Path, mixer: str, options: dict[str, Any], status: str
) -> None:
    found = measure(plain(settings(tmp_path, mixer=mixer, **options)), timeout=60.0)
    assert found.status == status, found.reason


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        slow("exit", "the measuring process ended with exit code 7"),
        ("crash", "the measuring process was killed by signal 11 (Segmentation fault)"),
        slow("kill", "the measuring process was killed by signal 9 (Killed)"),
    ],
)
def test_a_crash_while_measured_says_what_is_known(tmp_path: Path, deed: str, reason: str) -> None:
    found = measure(plain(settings(tmp_path, deed=deed)), timeout=60.0)
    assert (found.status, found.reason) == ("failed", reason)


@pytest.mark.slow
def test_a_model_that_sleeps_while_measured_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin = time.monotonic()
    found = measure(plain(settings(tmp_path, deed="sleep", after=0)), timeout=8.0)
    assert found.status == "timeout" and time.monotonic() - begin < 30


# Signals while a record is written.


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("lra.train.checkpoint.save", signal.SIGTERM),
        slow("lra.train.checkpoint.save", signal.SIGINT),
        ("lra.record.store.write_once", signal.SIGINT),
        slow("lra.record.store.write_once", signal.SIGTERM),
        slow("lra.runner.phases.packed", signal.SIGTERM),
        slow("lra.runner.phases.packed", signal.SIGINT),
    ],
)
def test_a_score_is_saved_whatever_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: int
) -> None:
    module, _, name = moment.rpartition(".")
    inner = getattr(importlib.import_module(module), name)

    def interrupted(*words: Any, **more: Any) -> Any:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        return inner(*words, **more)

    monkeypatch.setattr(f"{module}.{name}", interrupted)
    record = recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF)))
    assert record.status == "ok" and record.accuracy_test is not None and only(tmp_path) == record
    assert (tmp_path / "results/runs/listops/transformer" / record.predictions["file"]).exists()


def test_an_interruption_before_training_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(draft: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(phases, "PHASES", (twice,))
    assert recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF))) is None
    assert not [p for p in (tmp_path / "results").rglob("*") if p.is_file()]


def test_a_signal_that_a_phase_swallows_still_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swallowing(draft: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            pass

    monkeypatch.setattr(phases, "PHASES", (swallowing, phases.train))
    assert recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF))) is None


# Disks that fill.


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_record_that_its_folder_cannot_take_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = store.write_once
    results = tmp_path / "results"

    def filled(path: Path, content: bytes) -> Path:
        return full() if results in path.parents else inner(path, content)

    monkeypatch.setattr(store, "write_once", filled)
    monkeypatch.setattr("lra.runner.summary.floors.score", lambda *_, **__: None)
    record = recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF)))
    rescued = tmp_path / "out" / "rescued"
    assert [r for _, r in store.find(rescued)] == [record] and record.status == "ok"
    assert (rescued / "runs/listops/transformer" / record.predictions["file"]).exists()
    assert f"No space left on device; the record lies in {rescued}" in capsys.readouterr().err


def test_without_any_room_the_record_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "write_once", full)
    with pytest.raises(draft.written.__globals__["UserError"], match="no folder holds the record"):
        recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF)))
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert printed["status"] == "ok" and printed["accuracy_test"] is not None
    assert rescue.written is draft.written


def test_the_space_for_a_record_is_taken_before_training_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(draft: Any) -> None:
        seen.append(draft.reserve.path.stat().st_size)
        owner = json.loads(draft.reserve.path.read_bytes().splitlines()[0])
        assert owner == me() and is_gone(owner) is False

    monkeypatch.setattr(phases, "PHASES", (look, *phases.PHASES))
    record = recorded(compose.config(tiny.words(tmp_path, "model=transformer", OFF)))
    path = next((tmp_path / "results").rglob(f"{record.run_id}.json"))
    answers = path.with_name(record.predictions["file"])
    assert path.stat().st_size + answers.stat().st_size < seen[0] and nothing_left(tmp_path)


def test_a_disk_that_is_full_at_the_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tiny.words(tmp_path, "model=transformer", OFF)
    build.task(compose.config(words)).split("train")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(phases.UserError, match="cannot be written .No space left on device"):
        recorded(compose.config(words))


# What kills leave.


def test_what_killed_runs_left_is_swept_up(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "listops" / "linear"
    folder.mkdir(parents=True)
    dead, alive, elsewhere = me() | {"pid": 2**22 + 5}, me(), me() | {"host": "another"}
    names = {}
    for name, owner in (("dead", dead), ("reused", me() | {"start": 1}), ("alive", alive), ("elsewhere", elsewhere)):
        names[name] = folder / f".{name}.reserve"
        names[name].write_bytes(json.dumps(owner).encode() + b"\n" + b" " * 100)
        (folder / f"{name}.predictions.npz").write_bytes(b"answers")
    (folder / "reused.json").write_text("{}")  # its record was written: its answers are not an orphan's
    fresh, stale, probe = folder / ".a.json.1.draft", folder / ".b.json.1.draft", tmp_path / ".77.probe"
    for path in (fresh, stale, probe):
        path.write_bytes(b"half")
    for path in (stale, probe):
        os.utime(path, (time.time() - 7200,) * 2)
    for other in ("notes.txt", ".hidden", "x.predictions.npz"):
        (folder / other).write_text("not ours to remove")
    reserve.tidy(tmp_path)
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        ".alive.reserve", "alive.predictions.npz", ".elsewhere.reserve", "elsewhere.predictions.npz", "reused.json",
        "reused.predictions.npz", ".a.json.1.draft", "notes.txt", ".hidden", "x.predictions.npz",
    }  # fmt: skip


# Several processes that share a run.


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["0", "1", "agent"])
def test_a_shared_run_ends_with_a_record_whoever_is_killed(tmp_path: Path, victim: str) -> None:
    words = tiny.words(tmp_path, "model=transformer", OFF, "train.steps=1000000", "train.eval_every=50")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "lra", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    agent = subprocess.Popen(launch, cwd=tmp_path, env=tiny.environment(), **pipes)
    for line in agent.stdout:
        if "step 100" in line:
            break
    mine = runs_below(str(tmp_path))
    assert {rank for _, rank in mine} == {"0", "1"}
    os.kill(agent.pid if victim == "agent" else max(pid for pid, rank in mine if rank == victim), signal.SIGKILL)
    agent.communicate(timeout=60)
    end = time.monotonic() + 60
    while runs_below(str(tmp_path)):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.1)
    assert stopped_at(tmp_path)[0] >= 50
    for _, r in store.find(tmp_path / "results"):
        assert r.status == "failed" and r.steps_done >= 50 and r.reason


def runs_below(folder: str) -> list[tuple[int, str]]:
    """(pid, rank) of the keepers of runs that write there, and of their runs."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and folder in str((process / "cwd").readlink()):
                variables = (process / "environ").read_bytes().split(b"\0")
                found += [(int(process.name), v[5:].decode()) for v in variables if v.startswith(b"RANK=")]
    return found


def test_what_cannot_be_removed_is_not_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "listops" / "linear"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f".{name}.reserve").write_bytes(json.dumps(me() | {"pid": 2**22 + 5}).encode() + b"\n")
    inner = Path.unlink

    def unlink(path: Path, **more: Any) -> None:
        if path.name == ".a.reserve":
            raise PermissionError(13, "not yours")
        inner(path, **more)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert [path.name for path in reserve.tidy(tmp_path)] == [".b.reserve"]
