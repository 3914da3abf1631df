"""What is published: the boards in every format that is written to the results folder."""

from __future__ import annotations

import csv as tables
import html
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lra.errors import UserError
from lra.leaderboard import csv, latex, markdown, page, terminal
from lra.leaderboard import paper as papers
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import Board
from lra.leaderboard.chosen import COMMAND
from lra.leaderboard.paper import Paper, files_of
from lra.leaderboard.predict import Table
from lra.marks.about import abouts
from lra.record import sheet
from lra.results import Results

NAMES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html")


CARRIED = re.compile(r"Made by (?:<code>|`)?python -m lra\.leaderboard (.+?)(?:</code>|`)? from ")


class Boards(list[Board]):
    """Boards that print as the command prints them. able: those of abilities."""

    def __init__(self, shown: Sequence[Board], able: Sequence[Abilities] = ()) -> None:
        super().__init__(shown)
        self.able = list(able)

    def __repr__(self) -> str:
        return terminal.render(self, able=self.able)


def files(
    shown: Sequence[Board],
    drawn: Mapping[str, bytes],
    able: Sequence[Abilities] = (),
    predicted: Sequence[Table] = (),
    treated: pd.DataFrame | None = None,
) -> dict[str, bytes]:
    """File name -> content, of every format that is written to the results folder. `drawn`: the
    figures, as `lra.plot.render.render` gives them; of them the page takes the bubble charts. treated:
    lra.results.Results.derived, which stands in Markdown."""
    query = next((board.chosen for board in (*shown, *able) if board.chosen), None)
    command = f"{COMMAND} {query}" if query else COMMAND
    texts = (
        markdown.render(shown, able, predicted, command, treated),
        csv.render(shown, able, command),
        latex.render(shown, able, command),
        page.render(shown, drawn, able, predicted, command),
    )
    return {name: text.encode() for name, text in zip(NAMES, texts, strict=True)}


def paper(found: Results, shown: Sequence[Board], asked: Paper) -> dict[str, bytes]:
    """The table for a paper, with settings and methods from the records of what is shown."""
    records = {}
    for file in files_of(shown):
        path = Path(file) if len(found.folders) > 1 and not (found.folder / file).exists() else found.folder / file
        records[file] = sheet.read(path)
    command = shlex.join([*COMMAND.split(), *found.chosen.words, *asked.words])
    text = papers.render(shown, abouts(found.config_dir), records, asked, command)
    return {"paper.tex": text.encode()}


def one(given: Mapping[str, bytes], path: Path) -> dict[str, bytes]:
    """The format alone that a file's name ends in. UserError for another ending."""
    content = next((content for name, content in given.items() if name.endswith(path.suffix)), None)
    if content is None:
        endings = ", ".join(Path(name).suffix for name in given)
        raise UserError(f"out: {path} ends in {path.suffix}; allowed: a folder, or a file that ends in {endings}")
    return {path.name: content}


def carried(path: Path) -> list[str]:
    """The words of the choice that a file of ours carries; none where it shows all that there is."""
    text = path.read_text(errors="replace")
    if path.suffix == ".csv":
        first = next(tables.DictReader(io.StringIO(text)), {}).get("command") or ""
        return shlex.split(first.removeprefix(COMMAND)) if first.startswith(COMMAND) else []
    found = CARRIED.search(html.unescape(text) if path.suffix == ".html" else text)
    return shlex.split(found[1]) if found else []
