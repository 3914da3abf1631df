"""Runs of a second: the real task and loop at toy size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.help import warm

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = [
    "task=listops",
    "task.max_len=24",
    "task.min_length=3",
    "task.sizes=[300,60,60]",
    "size.dim=16",
    "size.qkv_dim=16",
    "size.mlp_dim=16",
    "train.steps=6",
    "train.eval_every=3",
    "train.batch_size=8",
    "measure.steps=3",
]


def words(tmp_path: Path, *more: str) -> list[str]:
    places = [f"data_dir={tmp_path / 'data'}", f"results_dir={tmp_path / 'results'}", f"output_dir={tmp_path / 'out'}"]
    return [*WORDS, *places, *more]


def config(tmp_path: Path, *more: str) -> Any:
    from lra.settings.compose import config

    return config(words(tmp_path, *more))


def interruptible(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process that hears SIGINT, which a shell's background job and all below it do not."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if warm.possible(env):
        return warm.Asked(command, cwd=ROOT, env=env, **pipes)
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=ROOT, env=env, preexec_fn=hears, **pipes)


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def lra(
    *arguments: str, module: str = "lra", cwd: Path = ROOT, cold: bool = False, **env: str
) -> subprocess.CompletedProcess:
    """Run `python -m lra ...` as a user would. cold: in a Python that is started for it (tests.help.warm)."""
    variables = environment(**env)
    popen = subprocess.Popen if cold else warm.Asked
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen([sys.executable, "-m", module, *arguments], cwd=cwd, env=variables, **pipes) as process:
        try:
            out, err = process.communicate(timeout=900)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def entry(tmp_path: Path) -> tuple[Any, Path]:
    """A finished record with predictions, written below `tmp_path`, and where."""
    from lra.record import record, store

    r = record.Record(
        run_id="20260101T000000Z-ab", started_utc="2026-01-01T00:00:00+00:00", kind="model", status="ok",
        task="listops", model="transformer", budget="quick", row="listops-24", seed=7, config={}, config_hash="0" * 16,
        accuracy_test=0.5, items_test=60, predictions={"file": "20260101T000000Z-ab.predictions.npz"},
    )  # fmt: skip
    path = store.write(tmp_path / "results", r)
    path.with_name(r.predictions["file"]).write_bytes(b"arrays")
    return r, path
