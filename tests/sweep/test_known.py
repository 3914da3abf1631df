"""What a sweep does with what is recorded already: the README's table, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import store
from lra.runner.keeper import End
from lra.settings import build, compose, identity
from lra.settings.typed import plain
from lra.sweep.job import Job
from lra.sweep.once import Sweep
from tests.help import tiny
from tests.help.made import example

KNOWN, AGAIN = True, False
SAME = {"commit": "c", "versions": {"torch": "2"}, "dirty": False}
TABLE: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "ok": ({"status": "ok", "accuracy_test": 0.5}, KNOWN, KNOWN),
    "ok, other code": ({"status": "ok", "accuracy_test": 0.5, "commit": "d"}, KNOWN, KNOWN),
    "oom": ({"status": "oom", "reason": "x"}, KNOWN, AGAIN),
    "diverged": ({"status": "diverged", "reason": "x"}, KNOWN, AGAIN),
    "failed": ({"status": "failed", "reason": "x"}, KNOWN, AGAIN),
    "crashed": ({"status": "failed", "reason": "x", "signal": 11}, KNOWN, AGAIN),
    "failed, other code": ({"status": "failed", "reason": "x", "commit": "d"}, AGAIN, AGAIN),
    "failed, edited code": ({"status": "failed", "reason": "x", "dirty": True}, AGAIN, AGAIN),
    "failed, other torch": ({"status": "failed", "reason": "x", "versions": {"torch": "1"}}, AGAIN, AGAIN),
    "killed": ({"status": "failed", "reason": "x", "signal": 9}, AGAIN, AGAIN),
    "terminated": ({"status": "failed", "reason": "x", "signal": 15}, AGAIN, AGAIN),
    "timeout": ({"status": "timeout", "reason": "x"}, AGAIN, AGAIN),
    "interrupted": ({"status": "interrupted", "reason": "x"}, AGAIN, AGAIN),
}


class Noted:
    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        self.jobs.append(job)
        return End(1)


@pytest.mark.parametrize("name", TABLE)
def test_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values, same, failed = TABLE[name]
    monkeypatch.setattr(facts, "commit", lambda: ("c", False))
    monkeypatch.setattr(facts, "versions", lambda: {"torch": "2"})
    words = tiny.words(tmp_path, "model=linear")
    settings = compose.config(words)
    exam = build.task(settings)
    config = plain(settings)
    device = resolve_device(settings.device)
    made = {
        "task": "listops", "model": "linear", "row": exam.row, "seed": settings.seed,
        "config": identity.portable(config), "config_hash": identity.identity(config), "machine": {"device": device},
        "dtype": resolve_dtype(settings.dtype, device), "data": {"fingerprint": exam.fingerprint()},
    }  # fmt: skip
    store.write(tmp_path / "results", example(**made | SAME | values))
    for word, known in (("no", same), ("failed", failed), ("all", AGAIN)):
        launcher = Noted()
        job = Job((*words, f"rerun={word}"), None, "listops", "linear", settings.seed, "linear")
        sweep = Sweep(launcher)
        sweep.all([job])
        (row,) = sweep.rows
        assert row.known == known and bool(launcher.jobs) != known, f"rerun={word}"
        if known:
            assert row.status == values["status"]
