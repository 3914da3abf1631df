"""Records of several places: read together, and brought together."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from lra import results
from lra.errors import UserError
from lra.plot import style
from lra.record import store
from lra.record.merge import merge
from tests.help import answered

Door = Callable[..., CompletedProcess]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: one seed each, and a third record in both."""
    a, b = tmp_path / "a", tmp_path / "b"
    answered.run(a, "linear", 0.5, seed=0)
    answered.run(b, "linear", 0.5, seed=1)
    answered.run(a, "local", 0.5, seed=0)
    same = next(store.folder(a, "listops", "local").glob("*.json"))
    store.folder(b, "listops", "local").mkdir(parents=True)
    for path in same.parent.glob(f"{same.stem}*"):
        shutil.copy(path, store.folder(b, "listops", "local"))
    return a, b


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "runs").rglob("*") if p.is_file())


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Door:
    """What `python -m MODULE WORDS` gives, in this process."""

    def call(module: str, *words: str) -> CompletedProcess:
        monkeypatch.setattr(sys, "argv", [module, *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__")
        out = capsys.readouterr()
        return CompletedProcess(words, end.value.code or 0, out.out, out.err)

    return call


def test_read_together_as_if_they_were_one(two: tuple[Path, Path]) -> None:
    a, b = two
    found = results.load([a, b])
    assert len(found.runs) == 3 and not found.conflicts and not found.remarks()
    assert sorted(found.runs.seed[found.runs.model == "linear"]) == [0, 1]
    (cell,) = found.cells[found.cells.model == "linear"].itertuples()
    assert cell.seeds == 2
    assert sum(f.startswith(b.as_posix()) for f in found.runs.file) == 1
    with pytest.raises(UserError, match="no folder is named"):
        results.load([])


def test_by_every_door(two: tuple[Path, Path], door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two
    monkeypatch.setattr(style, "DPI", 30)  # pictures are compared with themselves
    plain, listed = f"results_dir={a},{b}", f"results_dir=[{a},{b}]"
    done = door("lra.leaderboard", plain)
    assert done.returncode == 0, done.stderr
    assert (a / "leaderboard.md").exists() and not (b / "leaderboard.md").exists()
    assert door("lra.plot", listed).returncode == 0
    done = door("lra.leaderboard", plain, "--check")
    assert done.returncode == 0 and "3 records are whole" in done.stdout, done.stdout
    assert door("lra.leaderboard", f"results_dir={a}", "--check").returncode == 1, "they are of both"


def test_bad_words_are_one_line(two: tuple[Path, Path], tmp_path: Path, door: Door) -> None:
    a, _ = two
    for word, said in ((f"results_dir={a},{tmp_path}/none", "none has no folder runs"), (f"results_dir={a},", "list")):
        for module in ("lra.leaderboard", "lra.plot", "lra.cost"):
            done = door(module, word)
            assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_comma_may_be_in_a_name(tmp_path: Path, door: Door) -> None:
    answered.run(tmp_path / "a,b", "linear", 0.5)
    assert door("lra.leaderboard", f"results_dir={tmp_path / 'a,b'}").returncode == 0


def test_merged(two: tuple[Path, Path], door: Door) -> None:
    a, b = two
    before = names(b)
    assert (out := merge(a, b)).copied == 1 and out.there == 1 and not out.refused
    assert names(b) == before and set(names(a)) >= set(before)
    assert len(results.load(a).runs) == 3 and not list(results.load(a).remarks())
    assert (out := merge(a, b)).copied == 0 and out.there == 2
    done = door("lra.record", "merge", str(a), str(b))
    assert done.returncode == 0 and "0 copied, 2 there already, 0 not" in done.stdout


def test_conflicts_are_named_and_nothing_is_replaced(two: tuple[Path, Path], door: Door) -> None:
    a, b = two
    path = next(store.folder(b, "listops", "local").glob("*.json"))
    r = store.read(path)
    path.unlink()
    other = json.loads(json.dumps(vars(r)))
    other["accuracy_valid"] = 0.25
    store.write(b, type(r)(**{k: v for k, v in other.items() if k != "digest"}))
    ours = next(store.folder(a, "listops", "local").glob("*.json"))
    content = ours.read_bytes()
    found = results.load([a, b])
    assert len(found.runs) == 3 and len(found.conflicts) == 1 and "is another record than" in found.remarks()[0]
    done = door("lra.record", "merge", str(a), str(b))
    assert done.returncode == 1 and "1 copied, 0 there already, 1 not" in done.stdout
    assert "is another record than" in done.stderr and ours.read_bytes() == content
    assert door("lra.leaderboard", f"results_dir={a},{b}", "--check").returncode == 1


def test_what_is_not_whole_does_not_come(two: tuple[Path, Path]) -> None:
    a, b = two
    linear, local = (next(store.folder(b, "listops", m).glob("*.json")) for m in ("linear", "local"))
    edited = json.loads(linear.read_text()) | {"accuracy_test": 1.0}
    linear.write_text(json.dumps(edited))
    (local.parent / "broken.json").write_text("{")
    out = merge(a / "new", b)
    assert out.copied == 1 and sorted(why.split()[0] for _, why in out.refused) == ["not", "was"]
    next(local.parent.glob("*.npz")).unlink()
    assert [why for _, why in merge(a / "newer", b).refused if "predictions" in why]


def test_the_door_says_what_it_wants(door: Door) -> None:
    for words in ([], ["merge"], ["merge", "a"], ["split", "a", "b"], ["merge", "a", "/nowhere"]):
        done = door("lra.record", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "merge" in door("lra.record", "--help").stdout
