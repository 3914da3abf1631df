"""Two hosts that share a folder: whoever is paused for longer than it takes to be followed leaves no second record.

A host is a name here, and a clock that is years off; beats are quick, so that silence is soon told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lra.record import store
from lra.record.unfinished import left
from tests.help import tiny
from tests.help.tiny import ROOT

HOOK = """
import os, platform, time
platform.node = lambda: os.environ["LRA_TEST_HOST"]
off, now = float(os.environ["LRA_TEST_CLOCK"]), time.time
time.time = lambda: now() + off
from lra.record import claim
claim.BEAT, claim.SILENCE = 0.5, 4.0
"""


def sweep(folder: Path, host: str, clock: float) -> subprocess.Popen:
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK)
    words = tiny.words(folder, "model=performer", "measure.enabled=false", "size.dropout=0.1", "threads=1")
    more = ["train.steps=400", "train.eval_every=20", "seed=0", "checkpoint_every=0.2"]
    env = tiny.environment(LRA_TEST_HOST=host, LRA_TEST_CLOCK=str(clock)) | {"PYTHONPATH": f"{hook}:{ROOT}"}
    return subprocess.Popen(
        [sys.executable, "-m", "lra", "-m", *words, *more], cwd=ROOT, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def until(condition: Callable[[], Any], seconds: float = 240.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def models(folder: Path) -> list[Any]:
    return [r for _, r in store.find(folder / "results") if r.kind == "model"]


@pytest.mark.slow
@pytest.mark.parametrize("clock", [-3e8, 3e8])
@pytest.mark.parametrize("wakes", ["while the other trains", "when all is over"])
def test_an_owner_that_was_paused_leaves_no_second_record(tmp_path: Path, clock: float, wakes: str) -> None:
    first = sweep(tmp_path, "node1", 0.0)
    until(lambda: [row for row in left(tmp_path / "results") if row["step"] >= 20])
    os.killpg(first.pid, signal.SIGSTOP)
    second = sweep(tmp_path, "node2", clock)
    place = until(lambda: list((tmp_path / "results/unfinished").glob("*/claim.2")))[0].parent
    if wakes == "while the other trains":
        until(lambda: list(place.glob("state-2-*.json")))
    else:
        second.wait(240)
    os.killpg(first.pid, signal.SIGCONT)
    said = [process.communicate(timeout=240)[0] for process in (first, second)]
    assert second.returncode == 0 and first.returncode == 0, said
    (r,) = models(tmp_path)
    assert r.status == "ok" and len(r.segments) == 2 and [s["host"] for s in r.segments] == ["node1", "node2"]
    assert len(list((tmp_path / "results/runs/listops/performer").glob("*"))) == 2, "a record and its answers"
    assert not list((tmp_path / "results/unfinished").glob("*"))


@pytest.mark.slow
def test_two_hosts_make_one_record_a_run(tmp_path: Path) -> None:
    both = [sweep(tmp_path, "node1", 0.0), sweep(tmp_path, "node2", -3e8)]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [(r.status, r.segments) for r in models(tmp_path)] == [("ok", [])]
