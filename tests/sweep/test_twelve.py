"""A sweep of twelve, eight of which end as badly as a run can: the rest are done, and each failure is a record."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from lra.machine.processes import MARK
from lra.record import store
from tests.help import tiny
from tests.help.groups import limited

SOUND = ["transformer", "linear", "local", "performer"]
DEEDS = {  # name: (deed, after how many steps, status, what its reason says)
    "raises": ("fail", 16, "failed", "RuntimeError: as planned"),
    "sleeps_measured": ("sleep", 1, "failed", "no progress for run.stalled=60 seconds in phase cost"),
    "sleeps_training": ("deaf", 16, "failed", "no progress for run.stalled=60 seconds in phase train"),
    "exits": ("exit", 16, "failed", "ended with exit code 7 in phase train"),
    "crashes": ("crash", 16, "failed", "was killed by signal 11 (Segmentation fault) in phase train"),
    "hoards": ("hoard", 16, "oom", "when the system counted a kill for want of memory"),
    "diverges": ("astray", 16, "diverged", "loss nan"),
    "prints": ("print_once", 16, "ok", None),
}


@pytest.fixture
def group() -> Iterator[Path]:
    with limited(1700 << 20) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twelve_runs(tmp_path: Path, group: Path, workers: int) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    # A file of its own: an edit of whatever else lies in a package would make the models others.
    shutil.copy(tiny.ROOT / "tests" / "help" / "deadly.py", tmp_path / "ends_badly.py")
    for name, (deed, after, _, _) in DEEDS.items():
        mixer = f"{{_target_: ends_badly.Deadly, _partial_: true, deed: {deed}, after: {after}}}"
        (tmp_path / "mine" / "model" / f"{name}.yaml").write_text(f"# @package _global_\nmodel:\n  mixer: {mixer}\n")
    words = ["--config-dir", str(tmp_path / "mine"), "-m", f"model={','.join([*SOUND, *DEEDS])}"]
    words += [*tiny.words(tmp_path), "train.steps=40", "run.stalled=60", "run.timeout=600", f"workers={workers}"]
    done, left = swept(words, tmp_path, group)
    assert left == [], "processes of runs are left"
    found = {r.model: r for _, r in store.find(tmp_path / "results") if r.kind == "model"}
    assert set(found) == {*SOUND, *DEEDS} and done.returncode == 1, done.stderr[-5000:]
    for name in SOUND:
        assert found[name].status == "ok", (name, found[name].reason)
    for name, (_, _, status, reason) in DEEDS.items():
        r = found[name]
        assert r.status == status and (reason is None or reason in r.reason), (name, r.status, r.reason)
        assert r.wall_seconds.get("total", 0.0) < 600
    if workers == 2:
        assert all(r.machine["threads"] == 1 for r in found.values())
        assert any(r.machine["shared_with"] for r in found.values())
    assert f"12 runs, 5 ok, 7 not; records in {tmp_path / 'results/runs'}" in done.stdout
    assert not (tmp_path / "results" / "sweeps").exists()
    before = set(store.paths(tmp_path / "results"))
    swept(words, tmp_path, group)
    again = {store.read(p).model for p in set(store.paths(tmp_path / "results")) - before}
    edited = found["raises"].dirty is not False  # what failed under edited code is tried again
    assert again == ({n for n, d in DEEDS.items() if d[2] == "failed"} if edited else set())


def swept(words: list[str], folder: Path, group: Path) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """A sweep in a control group of little memory, and which processes of its runs are left five seconds later."""

    def inside() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    command = [sys.executable, "-m", "lra", *words]
    pipes: dict[str, Any] = {"capture_output": True, "text": True, "cwd": folder, "env": tiny.environment()}
    done = subprocess.run(command, preexec_fn=inside, timeout=3000, **pipes)
    time.sleep(5)
    return done, [p.pid for p in psutil.process_iter() if of_a_run(p, folder)]


def of_a_run(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return MARK in process.environ() and process.cwd() == str(folder)
    return False
