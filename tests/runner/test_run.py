"""Whole runs as a user types them: one record, the same twice, nothing half done, one line for bad input."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lra.__main__ import main
from lra.errors import UserError
from lra.record import record, store
from lra.record.unfinished import left
from lra.runner.run import recorded
from lra.settings import build, compose
from tests.help import tiny

# One run, made once, serves most of them.
pytestmark = pytest.mark.xdist_group("run")
RUN = ["task=listops", "model=transformer"]


def only(results: Path, kind: str = "model") -> record.Record:
    (found,) = [r for _, r in store.find(results) if r.kind == kind]
    return found


def answers(results: Path) -> np.ndarray:
    (path,) = results.rglob("*.npz")
    return np.load(path)["predictions"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """A run as a user starts it; what the others here are compared with."""
    folder = tmp_path_factory.mktemp("first")
    return folder, tiny.lra(*tiny.words(folder, *RUN))


def here(folder: Path, *more: str) -> record.Record:
    """A run in this process, without its measurement."""
    return recorded(compose.config(tiny.words(folder, *RUN, "measure.enabled=false", *more)))


def test_one_run_leaves_one_whole_record(first: tuple[Path, subprocess.CompletedProcess]) -> None:
    folder, done = first
    assert done.returncode == 0, done.stderr
    r = only(folder / "results")
    assert r.status == "ok" and r.items_test == 60 and 0 <= r.accuracy_test <= 1
    assert r.cost["train"]["examples_per_second"] > 0 and r.cost["step_peak_bytes"] > 0
    assert r.parameters == r.cost["parameters"] and r.steps_done == 6 and len(r.curve) == 2
    assert r.data["items"] == {"train": 300, "valid": 60, "test": 60} and r.machine["threads"] == 1
    assert r.machine["memory_kept"] is hasattr(ctypes.CDLL(None), "malloc_trim")
    assert r.row == "listops-24" and r.budget == "quick" and r.versions["torch"]
    assert 0 <= r.training["padding_share"] < 1
    assert r.training["parts"] >= 1 and r.training["undivided"] is None
    assert len(answers(folder / "results")) == 60
    (path,) = (folder / "results").rglob("*.npz")
    assert (np.load(path)["labels"] == np.load(path)["predictions"]).mean() == r.accuracy_test
    assert r.cost["attempts"] in (1, 2) and r.cost["conditions"]["threads"] == 1
    assert {f.model for _, f in store.find(folder / "results") if f.kind == "floor"} >= {"majority", "first_operator"}


def test_what_a_run_prints(first: tuple[Path, subprocess.CompletedProcess]) -> None:
    done = first[1]
    start, end = done.stderr, done.stdout
    assert "transformer on listops-24, budget quick" in start and "budget=small" in start and "6 steps of 8" in start
    assert "floor: majority" in end and "training examples/s" in end and "step peak" in end
    assert "record: " in end and "Traceback" not in start + end


def test_the_record_names_no_place_on_this_machine(first: tuple[Path, subprocess.CompletedProcess]) -> None:
    folder, _ = first
    for path in folder.rglob("*.json"):
        if "runs" in path.parts:
            assert str(folder) not in path.read_text() and str(Path.home()) not in path.read_text()


def test_same_command_same_answers(first: tuple[Path, subprocess.CompletedProcess], tmp_path: Path) -> None:
    """Another hash seed, another working folder, fresh data, and a Python that is started for it."""
    done = tiny.lra(*tiny.words(tmp_path, *RUN, "measure.enabled=false"), cwd=tmp_path, PYTHONHASHSEED="2")
    assert done.returncode == 0, done.stderr
    a, b = only(first[0] / "results"), only(tmp_path / "results")
    assert (answers(first[0] / "results") == answers(tmp_path / "results")).all()
    assert (a.accuracy_test, a.accuracy_valid, a.loss_test, a.data) == (
        b.accuracy_test,
        b.accuracy_valid,
        b.loss_test,
        b.data,
    )
    assert [c["train_loss"] for c in a.curve] == [c["train_loss"] for c in b.curve]


def test_weights_can_be_scored_again(first: tuple[Path, subprocess.CompletedProcess], tmp_path: Path) -> None:
    folder, _ = first
    (weights,) = folder.rglob("*.safetensors")
    again = here(folder, f"checkpoint={weights}", "train.steps=0", f"results_dir={tmp_path}")
    assert again.status == "ok" and again.accuracy_test == only(folder / "results").accuracy_test


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["task=listop"], ["task", "listops"]),
        (["train.stps=4"], ["train.stps", "train.steps"]),
        (["size.heads=3"], ["size.heads", "3"]),
        (["task.path={}/nothing"], ["task.path", "nothing is not a folder"]),
        (["checkpoint={}/none.safetensors"], ["checkpoint", "none.safetensors"]),
        (["data_dir=/proc/nowhere"], ["data_dir", "/proc"]),
        (["results_dir=/proc/nowhere"], ["results_dir", "/proc"]),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    parts: list[str],
) -> None:
    """The command's own code in this process, but for what it starts."""
    given = [w.format(tmp_path) for w in words]
    keys = {w.split("=")[0] for w in given}
    usual = [w for w in tiny.words(tmp_path, *RUN, "measure.enabled=false") if w.split("=")[0] not in keys]
    monkeypatch.setattr("sys.argv", ["lra", *usual, *given])
    with pytest.raises(SystemExit) as left_with:
        main()
    said = capfd.readouterr().err
    assert left_with.value.code == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("lra: ") and "Traceback" not in said and "Error executing" not in said
    for part in parts:
        assert part in last, last
    assert not list((tmp_path / "results").rglob("*.json"))


def test_a_cache_cut_short_is_refused(tmp_path: Path) -> None:
    build.task(compose.config(tiny.words(tmp_path, *RUN))).split("train")
    (tokens,) = (tmp_path / "data").rglob("tokens.npy")
    os.truncate(tokens, 1000)
    with pytest.raises(UserError, match="tokens.npy has 1000 bytes"):
        here(tmp_path)


def start(tmp_path: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lra", *tiny.words(tmp_path, *RUN, "train.steps=100000", *more)]
    return tiny.interruptible(command, tiny.environment())


def wait_for(process: subprocess.Popen, words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"ended without saying {words!r}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_runs_are_gone_on_with(tmp_path: Path, how: int) -> None:
    process = start(tmp_path, "measure.enabled=false")
    wait_for(process, "step 3/")
    process.send_signal(how)
    _, complaint = process.communicate(timeout=600)
    assert process.returncode == 130 and "Traceback" not in complaint
    assert not list(store.find(tmp_path / "results")) and "the same command goes on from step" in complaint
    (row,) = left(tmp_path / "results")
    assert row["step"] > 0 and row["steps"] == 100000


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("at once", marks=pytest.mark.slow),
        pytest.param("while measuring", marks=pytest.mark.slow),
        "step 3/",
    ],
)
def test_killed_runs_leave_nothing_half(tmp_path: Path, moment: str) -> None:
    process = start(tmp_path, *(["measure.enabled=false"] if moment == "step 3/" else []))
    if moment == "at once":
        time.sleep(1.5)
    else:
        wait_for(process, "steps of 8" if moment == "while measuring" else moment)
    runs = children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{run}").exists() for run in runs):  # it follows its keeper
        assert time.monotonic() < end
        time.sleep(0.1)
    for path in (tmp_path / "results").rglob("*.json"):
        json.loads(path.read_text())
    assert not list(store.find(tmp_path / "results")), "its keeper was killed: it ends, and is no result"
    assert here(tmp_path).status == "ok"
    assert [r.status for _, r in store.find(tmp_path / "results") if r.kind == "model"] == ["ok"]
    assert not list((tmp_path / "results/runs").rglob(".*"))


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def test_divergence_is_a_record(tmp_path: Path) -> None:
    r = here(tmp_path, "train.learning_rate=1e30", "train.warmup_steps=0")
    assert r == only(tmp_path / "results")
    assert r.status == "diverged" and r.accuracy_test is None and "at step" in r.reason


def test_out_of_memory_is_a_record(tmp_path: Path) -> None:
    more = ["train.batch_size=8000", "task.max_len=2000", "measure.memory_limit_gib=5"]
    done = tiny.lra(*tiny.words(tmp_path, *RUN), *more)
    r = only(tmp_path / "results")
    assert done.returncode == 1 and r.status == "oom" and r.steps_done is None and r.accuracy_test is None


def test_a_sweep_goes_on_and_does_only_what_is_missing(tmp_path: Path) -> None:
    words = tiny.words(tmp_path, *RUN, "measure.enabled=false")
    sweep = ["-m", *words, "train.learning_rate=1e-3,1e30,-1", "train.warmup_steps=0"]
    done = tiny.lra(*sweep)
    assert done.returncode == 1, done.stderr
    assert "3 runs, 1 ok, 2 not" in done.stdout and "diverged" in done.stdout
    assert "refused" in done.stdout and "train.learning_rate: -1" in done.stdout + done.stderr
    assert "test items" not in done.stdout and "inference examples/s" not in done.stdout, "a run's own words"
    before = sorted(p.name for p in (tmp_path / "results").rglob("*.json"))
    again = tiny.lra(*sweep)
    assert again.returncode == 1 and again.stdout.count("recorded before") == 2
    assert sorted(p.name for p in (tmp_path / "results").rglob("*.json")) == before
    more = tiny.lra(*sweep, "seed=5", "--dry-run")
    assert "2 to do" in more.stdout and "recorded" not in more.stdout


@pytest.mark.slow
def test_a_sweep_refuses_what_does_not_fit_and_goes_on(tmp_path: Path) -> None:
    words = tiny.words(tmp_path, *RUN, "measure.enabled=false")
    done = tiny.lra("-m", *words, "size.heads=3,2")
    assert done.returncode == 1 and "refused" in done.stdout and "1 ok, 1 not" in done.stdout
    assert "size.heads: 3" in done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_make_the_same_steps(first: tuple[Path, subprocess.CompletedProcess], tmp_path: Path) -> None:
    """The global batch is kept, every item is scored once, and one record is written."""
    words = tiny.words(tmp_path, *RUN, "measure.enabled=false")
    done = tiny.lra("--standalone", "--nproc_per_node=2", "-m", "lra", *words, module="torch.distributed.run")
    assert done.returncode == 0, done.stderr
    one, two = only(first[0] / "results"), only(tmp_path / "results")
    assert two.machine["processes"] == 2 and two.items_test == 60
    assert two.loss_test == pytest.approx(one.loss_test, abs=1e-5)


def test_help_is_quick_to_read() -> None:
    done = tiny.lra("--help")
    assert done.returncode == 0 and "python -m lra task=listops model=performer" in done.stdout


def test_the_record_says_which_kernel_was_taken_and_what_is_padding(tmp_path: Path) -> None:
    """On a CPU dropout on attention weights leaves the fused kernel."""
    for rate, kernel in ((0.1, "blocks"), (0.0, "fused")):
        r = here(tmp_path, f"size.attention_dropout={rate}")
        assert r.training["kernels"] == [f"FullAttention: {kernel}"]
        assert 0 < r.training["padding_share"] < 1 and r.training["parts"] >= 1 and r.training["undivided"] is None
