"""A file in lra/leaderboard/columns is a column of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra.leaderboard import columns, page
from lra.leaderboard.view import boards
from lra.results import load
from tests.help import answered

SEEDS = """
from lra.leaderboard.board import Line

TITLE = "Seeds & more"
ABOUT = "of all exams"


def text(line: Line) -> str:
    return f"<{value(line)}>"


def value(line: Line) -> int:
    return sum(mark.seeds for mark in line.marks.values())
"""


def test_the_columns_there_are() -> None:
    assert [each.title for each in columns.found()] == ["Parameters"]


def test_a_file_more_is_a_column_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seeds.py").write_text(SEEDS)
    monkeypatch.setattr(columns, "__path__", [*columns.__path__, str(tmp_path)])
    for seed in range(2):
        answered.run(tmp_path, "transformer", 0.5, seed=seed)
    text = page.render(boards(load(tmp_path)), {})
    assert "Seeds &amp; more" in text and '<td data-value="2">&lt;2&gt;</td>' in text
    assert text.index("Parameters") < text.index("Seeds &amp; more")
