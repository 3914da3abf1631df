"""Where records go: a folder that can take them is there afterwards and empty, another is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra.errors import UserError
from lra.record.place import writable


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
