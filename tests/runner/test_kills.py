"""Kills at every point of a run: no record is missing, doubled or half, and what goes on ends as if nothing had been.

Kills at random moments, of sweeps too, by the hundred: tests/runner/kills.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lra.record import store
from tests.help import killed, tiny
from tests.help.tiny import ROOT

# name -> function, and which of its calls; each is killed before and after.
POINTS = {
    "draft": ("lra.record.reserve", "Reserve.__init__", 1),
    "claim": ("lra.record.claim", "_made", 1),
    "state": ("lra.record.unfinished", "write", 2),
    "rename": ("lra.record.unfinished", "replace", 3),
    "tensors": ("lra.record.unfinished", "replace", 4),
    "evaluation": ("lra.train.evaluate", "evaluate", 1),
    "last evaluation": ("lra.train.evaluate", "evaluate", 2),
    "test": ("lra.train.evaluate", "evaluate", 3),
    "checkpoint": ("lra.train.checkpoint", "save", 1),
    "predictions": ("lra.record.store", "write_once", 1),
    "record": ("lra.record.store", "write_once", 2),
    "removal": ("lra.record.claim", "Claim.clear", 1),
}
SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT, "KILL": signal.SIGKILL}
NAMES = (
    "run_id", "started_utc", "wall_seconds", "training", "checkpoint", "predictions", "digest", "segments", "cost",
    "contract", "machine", "config", "curve", "commit", "dirty",
)  # fmt: skip


def words(folder: Path, *more: str) -> list[str]:
    usual = tiny.words(folder, "model=performer", "measure.enabled=false", "size.dropout=0.1", "threads=1")
    return [*usual, "checkpoint_every=0", *more]


def environment(folder: Path, **more: str) -> dict[str, str]:
    hook = folder / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    (hook / "sitecustomize.py").write_text(killed.PROGRAM)
    return tiny.environment(**more) | {"PYTHONPATH": f"{hook}:{ROOT}"}


def once(folder: Path, *more: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lra", *words(folder, *more)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(folder, **env), cwd=ROOT, timeout=600,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def models(folder: Path) -> list[Any]:
    return [r for _, r in store.find(folder / "results") if r.kind == "model"]


def essence(record: Any, folder: Path) -> dict[str, Any]:
    """Of a record all that must be equal to the bit, with the answers."""
    raw = json.loads(json.dumps(record, default=vars))
    out = {k: v for k, v in raw.items() if k not in NAMES}
    out["curve"] = [{k: v for k, v in point.items() if k not in ("seconds", "core_seconds")} for point in raw["curve"]]
    out["padding"] = raw["training"]["padding_share"]
    path = next((folder / "results").rglob(raw["predictions"]["file"]))
    out["answers"] = raw["predictions"]["sha256"], path.stat().st_size
    return out


def whole(folder: Path) -> None:
    """Every file that has a record's name is one, with its answers, and nothing else is left but floors'."""
    for path in (folder / "results" / "runs").rglob("*"):
        assert not path.is_file() or path.suffix in (".json", ".npz"), path
    for path, r in store.find(folder / "results"):
        assert r.predictions is None or path.with_name(r.predictions["file"]).exists()
    named = {r.predictions["file"] for r in models(folder) if r.predictions}
    assert {p.name for p in (folder / "results" / "runs").rglob("*.npz")} == named
    unfinished = folder / "results" / "unfinished"
    assert not unfinished.exists() or not list(unfinished.iterdir())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("whole")
    done = once(folder)
    assert done.returncode == 0, done.stderr
    (r,) = models(folder)
    return essence(r, folder), folder


def killed_and_finished(folder: Path, point: str, moment: str, name: str, expected: dict[str, Any]) -> None:
    module, function, number = POINTS[point]
    number_of = SIGNALS[name]
    done = folder / "done"
    first = once(
        folder, LRA_TEST_KILL=f"{module}:{function}:{number}:{int(number_of)}:{moment}", LRA_TEST_DONE=str(done)
    )
    assert done.exists(), f"never came to {point}: {first.stderr}"
    assert "Traceback" not in first.stderr, first.stderr
    finish(folder, expected, first.returncode)


def finish(folder: Path, expected: dict[str, Any], code: int) -> None:
    """The same command until the run has its record: in the end there is one that is ok, and it is the expected."""
    before = models(folder)
    good = [r for r in before if r.status == "ok"]
    assert (code == 0) <= bool(good), "what says that it went well has left its record"
    if not good:
        assert [r.status for r in before] in ([], ["failed"]), [r.reason for r in before]
        again = once(folder)
        assert again.returncode == 0, again.stderr
    good = [r for r in models(folder) if r.status == "ok"]
    assert len(good) == 1, "doubled" if good else "missing"
    assert essence(good[0], folder) == expected
    another = once(folder, "model=linear", "train.steps=1")  # whoever comes next sweeps up
    assert another.returncode == 0, another.stderr
    whole(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_at_a_named_point(
    tmp_path: Path, reference: tuple[dict[str, Any], Path], point: str, moment: str, name: str
) -> None:
    killed_and_finished(tmp_path, point, moment, name, reference[0])
