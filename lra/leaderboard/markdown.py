"""The boards as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from lra import console
from lra.cost.growth import TABLE_2
from lra.leaderboard import abilities, notes, predict, pretrained, race
from lra.leaderboard import treated as treatments
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import Board, Mark
from lra.leaderboard.chosen import COMMAND
from lra.leaderboard.predict import Table

SPECIAL = tuple(
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"[\\`*\[\]|$]", r"\\\g<0>"),
        (r"&", "&amp;"),
        (r"<", "&lt;"),
        (r"://", "&#58;//"),  # an address on its own would become a link
        (r"@", "&#64;"),
        (r"(?i)\bwww\.", "www&#46;"),
        (r"~~", r"\\~\\~"),
        (r"(?<![^\W_])_|_(?![^\W_])", r"\\_"),  # within a word it stands for itself
    )
)


def render(
    boards: Sequence[Board],
    able: Sequence[Abilities] = (),
    predicted: Sequence[Table] = (),
    command: str = COMMAND,
    treated: pd.DataFrame | None = None,
) -> str:
    """treated: lra.results.Results.derived, of which there may be none."""
    out = ["# Leaderboard", "", f"Made by `{command}` from the records in `runs/`; never edited."]
    for board in boards:
        out += ["", f"## {escaped(board.title)}", "", *_scores(board), "", *_ranks(board)]
        if board.race:
            out += ["", *_race(board)]
        if board.measured:
            out += ["", *_costs(board)]
        if board.pretrained:
            out += ["", *_table(pretrained.HEAD, pretrained.rows(board))]
        out += ["", *map(_item, notes.beneath(board))]
    for board in able:
        out += ["", f"## {escaped(board.title)}", "", *_abilities(board), "", *map(_item, abilities.beneath(board))]
    for table in predicted:
        out += ["", f"## {escaped(table.title)}", "", *_table(predict.HEAD, table.lines), "", _item(predict.NOTE)]
    if treated is not None and len(treated):
        out += ["", f"## {treatments.TITLE}", "", *done(treated)]
    return "\n".join(out) + "\n"


def done(treated: pd.DataFrame) -> list[str]:
    """The table of what treatments did, and what is said beneath."""
    return [*_table(treatments.HEAD, treatments.rows(treated)), "", *map(_item, treatments.NOTES)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    out = ["| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines]
    return [out[0], "|---" + "|---:" * (len(head) - 1) + "|", *out[1:]]


def escaped(text: str) -> str:
    """Text of a record as text: no cell ends in it, and no link, image, emphasis, tag or formula begins."""
    text = console.line(text)
    for found, shown in SPECIAL:
        text = found.sub(shown, text)
    return text


def _item(note: str) -> str:
    """A line of a list, which begins no heading or list of its own."""
    return "- " + re.sub(
        r"^([#+>=-]|\d+(?=[.)]))", lambda m: f"\\{m[0]}" if not m[0][0].isdigit() else f"{m[0]}\\", escaped(note)
    )


def _scores(board: Board) -> list[str]:
    head = ["Model", *(c.title for c in board.columns)]
    return _table(
        head,
        [[notes.name(line), *(notes.score(line.mark(c.key), " ± ") for c in board.columns)] for line in board.lines],
    )


def _ranks(board: Board) -> list[str]:
    columns = [c for c in board.columns if not board.empty(c)]
    head = ["Skill, rank", *(c.title for c in columns)]
    lines = [line for line in board.lines if line.kind != "floor"]
    return _table(head, [[notes.name(line), *(standing(line.mark(c.key)) for c in columns)] for line in lines])


def standing(mark: Mark) -> str:
    """ "0.31, rank 1-4, above chance 2 of 3", of what is known."""
    parts = [notes.skill(mark)] if mark.skill is not None else []
    parts += [f"rank {notes.rank(mark)}"] if mark.rank else []
    parts += ["above chance {} of {}".format(*mark.above_chance)] if mark.above_chance else []
    return ", ".join(parts) or "-"


def _race(board: Board) -> list[str]:
    columns = [c for c in board.columns if any((line.name, c.key) in board.race.cells for line in board.lines)]
    rows = [
        [notes.name(line), *(race.text(board.race, line.name, c.key) for c in columns)]
        for line in board.lines
        if line.kind != "floor"
    ]
    return _table([race.title(board.race), *(c.title for c in columns)], rows)


def _costs(board: Board) -> list[str]:
    head = ["Training step", *(f"{what} {n // 1024}K" for what in ("speed", "memory") for n in TABLE_2)]
    return _table(head, [[notes.name(line), *notes.ratios(line)] for line in board.lines if line.costs])


def _abilities(board: Abilities) -> list[str]:
    """What each exam asks for stands in the head, above its name."""
    columns = (*board.columns, *board.extents)
    names = ["Model", "Learnt", *(c.title for c in columns)]
    rows = [[board.called(m), board.counts(m), *(board.text(m, c) for c in columns)] for m in board.models]
    return _table(["Asks for", "", *(c.asks for c in columns)], [names, *rows])
