"""What a sweep does with what is recorded already: the table of docs/runs.md, row by row."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import store
from lra.runner.keeper import End
from lra.runner.known import Shelf, already
from lra.settings import build, compose, identity
from lra.settings.schema import Choices
from lra.settings.typed import plain, typed
from lra.sweep.job import Job
from lra.sweep.once import Sweep
from tests.help import answered, many, tiny
from tests.help.few import others_slow
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


@pytest.mark.parametrize(
    "name", others_slow(TABLE, ("ok, other code", "failed", "failed, edited code", "killed", "timeout"))
)
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


def test_records_are_opened_once_however_many_runs_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what came since is seen."""
    answered.run(tmp_path, "linear", 0.5, seed=1)
    settings = compose.config(tiny.words(tmp_path, "model=linear", f"results_dir={tmp_path}"))
    opened, inner = [], store.read
    monkeypatch.setattr(store, "read", lambda path: opened.append(path) or inner(path))
    shelf = Shelf()
    for seed in range(20):
        assert already(replace(settings, seed=seed), shelf) is None
    assert len(opened) == 1
    answered.run(tmp_path, "linear", 0.5, seed=2)
    assert len(shelf.entries(settings)) == 2 and len(opened) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("delay", "most"), [(0.0, 5.0), (0.001, 40.0)])
def test_a_thousand_known_runs_among_twenty_thousand_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay: float, most: float
) -> None:
    """Also where to open a file takes a millisecond, as on a network: counted, for the clock of a busy machine lies."""
    many.write(tmp_path, 20_000)
    standard = typed(store.read(store.paths(tmp_path, "text", "transformer")[0]).config)
    monkeypatch.setattr(build, "task", lambda s: SimpleNamespace(fingerprint=lambda: f"data of {s.choices.task}"))
    shelf, found, opened = Shelf(), 0, []
    inner = store.read
    monkeypatch.setattr(store, "read", lambda path: opened.append(path) or inner(path))
    begin = time.process_time()
    for number in range(1000):
        task, model = ("listops", "text", "image", "pathfinder")[number % 4], many.MODELS[number % 40]
        asked = replace(standard, seed=number % 50, choices=Choices(task, model), results_dir=str(tmp_path))
        found += already(asked, shelf) is not None
    assert time.process_time() - begin + delay * len(opened) < most and found > 800
