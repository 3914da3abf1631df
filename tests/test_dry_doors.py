"""Every door that does work says beforehand what it would do, and does nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from lra.record.place import published, unpublished
from tests.help import tiny

DOORS = {
    "lra.floors task=shift": "3 rules, less what is recorded: majority, window1, window5",
    "lra.measure task=shift model=linear size.dim=16": "linear on shift",
    "lra.check model=linear --only shapes,padding": "2 points: shapes, padding",
    "lra.data prepare task=shift,listops": "listops: would be made or fetched",
    "lra.data fetch lra_release --only listops-1000": "the archive would come first, from https://",
    "lra.search task=shift latency=1ms model=linear size.depth=1 size.dim=16,32": "1 mixers x 5 shapes x 3 lengths",
    "lra.record merge into results": "results: 1 to copy, 0 there already, 0 not",
}


@pytest.mark.parametrize("typed", DOORS)
def test_a_door_says_it(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.entry(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "data"))
    door, *words = typed.split()
    monkeypatch.setattr(sys, "argv", [door, *words, "--dry-run"])
    module = importlib.import_module(door if door == "lra.floors" else f"{door}.__main__")
    assert module.main() == 0
    assert DOORS[typed] in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_of_files_to_be_published_it_is_said_which_change(tmp_path: Path) -> None:
    published("results_dir", tmp_path, {"a.md": b"1", "b.md": b"2"})
    told = unpublished(tmp_path, {"a.md": b"1", "b.md": b"3", "f/c.png": b"4"})
    assert told.splitlines() == [
        f"would be changed: {tmp_path / 'b.md'}",
        f"would be new: {tmp_path / 'f' / 'c.png'}",
        f"nothing was written: 1 new, 1 changed, 1 as it is, in {tmp_path}",
    ]
    assert (tmp_path / "b.md").read_bytes() == b"2" and not (tmp_path / "f").exists()


@pytest.mark.parametrize("door", ["lra.leaderboard", "lra.plot"])
def test_tables_and_figures_that_would_change(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.entry(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", [door, f"results_dir={tmp_path / 'results'}", "--dry-run"])
    assert importlib.import_module(f"{door}.__main__").main() == 0
    assert "nothing was written: " in capsys.readouterr().out and sorted(tmp_path.rglob("*")) == before
