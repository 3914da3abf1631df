"""Published files are replaced whole, and all of them or none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lra.errors import UserError, guarded
from lra.record.place import published, writable
from lra.settings import compose
from lra.settings.words import as_typed
from tests.help import answered, tiny


def failing(at: int, inner: Callable) -> Callable:
    calls = []

    def call(*words: object) -> object:
        calls.append(words)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return inner(*words)

    return call


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    content = {"a.csv": b"new", "figures/b.svg": b"new", "c.md": b"new"}
    published("results_dir", tmp_path, dict.fromkeys(content, b"old"))
    monkeypatch.setattr(os, "fsync", failing(at, os.fsync))
    with pytest.raises(UserError, match="No space left on device.; nothing there was changed"):
        published("results_dir", tmp_path, content)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == (
        dict.fromkeys(content, b"old")
    )
    published("results_dir", tmp_path, content)
    assert all((tmp_path / name).read_bytes() == b"new" for name in content)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_terminal_that_is_full_is_one_line(tmp_path: Path) -> None:
    """The table goes to a disk without room: what is in the folder is whole all the same."""
    answered.run(tmp_path, "transformer", 0.6)
    command = [sys.executable, "-m", "lra.leaderboard", f"results_dir={tmp_path}"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=tiny.environment())
    assert done.returncode == 2 and "Traceback" not in done.stderr and "No space left" in done.stderr
    assert (tmp_path / "leaderboard.csv").read_text().count("transformer") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_a_disk_says_is_one_line_at_every_door(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError(code, os.strerror(code), "/somewhere/file")

    with pytest.raises(SystemExit) as end:
        guarded(main)
    assert end.value.code == 2 and capsys.readouterr().err == f"lra: /somewhere/file: {os.strerror(code)}\n"


@pytest.mark.parametrize(
    "place",
    ["ü", "a,b", "a=b", "x(y)", "two words", "it's", '"q"', "a{b}", "[x", "~x", "%20", "$x", "a\\b", "#", "a:b"],
)
def test_places_are_taken_as_they_are_typed(place: str) -> None:
    found = compose.config(
        [f"results_dir=/r/{place}", f"output_dir={place}/o", f"data_dir=/d/{place}", f"name={place}"]
    )
    assert found.results_dir == f"/r/{place}" and found.data_dir == f"/d/{place}" and found.output_dir == f"{place}/o"
    assert found.name in (place, None, "q")  # what is quoted is what is within
    assert found.task["data_dir"] == f"/d/{place}"


def test_in_a_sweep_a_comma_separates_unless_what_is_typed_is_there(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    there, not_there = f"results_dir={tmp_path}/a,b", f"results_dir={tmp_path}/c,d"
    assert as_typed(["-m", there])[1] == f"results_dir='{tmp_path}/a,b'"
    assert as_typed(["-m", not_there])[1] == not_there
    assert as_typed([not_there])[0] == f"results_dir='{tmp_path}/c,d'"
    assert as_typed(["results_dir=${oc.env:X}", "train.steps=1,2", "results_dir='a'"]) == [
        "results_dir=${oc.env:X}", "train.steps=1,2", "results_dir='a'",
    ]  # fmt: skip


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    writable("results_dir", tmp_path / "a" / "b")
    writable("results_dir", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"^results_dir: .*file/b cannot be written \(Not a directory\); choose another"
    ):
        writable("results_dir", tmp_path / "file" / "b")


def test_a_disk_without_room_keeps_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="results_dir: .* cannot be written .No space left on device"):
        writable("results_dir", tmp_path)
    assert not list(tmp_path.iterdir())
