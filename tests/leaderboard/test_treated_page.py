"""The page on what int8 costs says what the records say."""

from __future__ import annotations

from lra.leaderboard import markdown
from lra.results import load
from tests.help.tiny import ROOT


def test_the_rows_of_the_page_are_those_of_the_records() -> None:
    given = markdown.done(load(ROOT / "results").derived)
    shown = [line for line in (ROOT / "docs" / "int8.md").read_text().splitlines() if line.startswith("|")]
    assert len(shown) > 6 and [line for line in shown if line not in given] == []
    assert any("int8" in line for line in shown) and any("performer" in line for line in shown)
