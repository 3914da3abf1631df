"""The leaderboard: from cells to what is shown, and into each format.

view      what a board holds, worked out once for all formats
ranks     which models of a column can be told apart
notes     what a reader must know beneath the table
terminal, markdown, latex, csv, page      a format each: boards in, text out
answers   stored predictions
check     is what is published what the records give?
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lra.leaderboard.view import Board

NAMES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html")


def boards(results: str | Path) -> list[Board]:
    """One for each budget, machine and precision with a run. Raises UserError naming a bad file."""
    from lra.cost import points
    from lra.leaderboard.view import build
    from lra.marks import cells, runs

    table = runs.load(results)
    return build(cells.cells(table), runs.floors(table), points.load(results))


def files(shown: list[Board], drawn: Mapping[str, bytes]) -> dict[str, bytes]:
    """File name -> content, of every format that is written to the results folder. `drawn`: the
    figures, as `lra.plot.render` gives them; of them the page takes the bubble charts."""
    from lra.leaderboard import csv, latex, markdown, page

    texts = (markdown.render(shown), csv.render(shown), latex.render(shown), page.render(shown, drawn))
    return {name: text.encode() for name, text in zip(NAMES, texts, strict=True)}
