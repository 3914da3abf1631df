"""The boards for a terminal: fits 80 columns, or as many as there are."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Sequence

from lra.console import line as escaped
from lra.cost.growth import TABLE_2
from lra.leaderboard import abilities, notes, pretrained
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import Board, Column, Line, Mark
from lra.marks import said

NAME = 16  # longest name shown whole
GAP = "  "


def render(boards: Sequence[Board], width: int | None = None, able: Sequence[Abilities] = ()) -> str:
    width = max(width or shutil.get_terminal_size((80, 24)).columns, 60)
    return "\n".join([*(_board(board, width) for board in boards), *(_abilities(board, width) for board in able)])


def _board(board: Board, width: int) -> str:
    columns = [c for c in board.columns if not board.empty(c)]
    without = [c.title for c in board.columns if board.empty(c) and not c.over]
    ranked = [c for c in columns if any(_standing(line.mark(c.key)) for line in board.lines)]
    out = [f"\n{escaped(board.title)}\n"]
    scores = [[_name(line), *(notes.score(line.mark(c.key)) for c in columns)] for line in board.lines]
    kinds = [line.kind for line in board.lines]
    out += _table("accuracy, %", [c.title for c in columns], scores, kinds, width)
    if ranked:
        head, rows = _ranked(board, ranked)
        out += ["", *_table("skill  rank", head, rows, [kind for kind in kinds if kind != "floor"], width)]
    if board.measured:
        head = [f"{what} {n // 1024}K" for what in ("speed", "mem") for n in TABLE_2]
        lines = [line for line in board.lines if line.costs]
        rows = [[_name(line), *notes.ratios(line, "")] for line in lines]
        out += ["", *_table("relative cost", head, rows, [line.kind for line in lines], width)]
    if board.pretrained:
        rows = [[_cut(escaped(row[0])), *row[1:]] for row in pretrained.rows(board)]
        out += ["", *_table("pretrained", pretrained.HEAD[1:], rows, ["model"] * len(rows), width)]
    out.append("")
    if without:
        out += _wrapped(f"No run yet: {', '.join(without)}.", width)
    for note in notes.beneath(board):
        out += _wrapped(note, width)
    return "\n".join(out)


HEADINGS = {"floor": "floors", "variant": "with overrides", "pixels": "2-D, of images alone"}


def _abilities(board: Abilities, width: int) -> str:
    """Above the name of an exam stands what it asks for."""
    columns = (*board.columns, *board.extents)
    rows = [
        [_cut(escaped(board.called(m))), board.counts(m), *(board.text(m, c, whole=False) for c in columns)]
        for m in board.models
    ]
    head = ["learnt", *(f"[{c.asks}] {c.title}" for c in columns)]
    kinds = ["variant" if m in board.variants else "model" for m in board.models]
    out = [f"\n{escaped(board.title)}\n", *_table("abilities", head, rows, kinds, width), ""]
    notes = [f"Here: {said.BRIEFLY.format(within='')}.", *abilities.beneath(board)]
    return "\n".join([*out, *(line for note in notes for line in _wrapped(note, width))])


def _standing(mark: Mark) -> bool:
    return mark.rank is not None or mark.above_chance is not None or mark.skill is not None


def _wrapped(note: str, width: int) -> list[str]:
    return textwrap.wrap(escaped(note), width, subsequent_indent="  ", break_on_hyphens=False)


def _name(line: Line) -> str:
    """What its kind puts in front of a name stands in a heading."""
    return _cut(escaped(line.name if line.kind == "floor" else notes.name(line).removeprefix("2-D: ")))


def _cut(name: str) -> str:
    """Of a run with overrides the end is kept, which tells it from others."""
    if " " not in name.removesuffix(f" {notes.DAGGER}") or len(name) <= NAME:
        return name if len(name) <= NAME else name[: NAME - 1] + "…"
    return name if len(name) <= 2 * NAME else f"{name[: NAME // 2]}…{name[-(NAME + NAME // 2 - 1) :]}"


def _ranked(board: Board, columns: list[Column]) -> tuple[list[str], list[list[str]]]:
    lines = [line for line in board.lines if line.kind != "floor"]
    head, rows = [], [[_name(line)] for line in lines]
    for column in columns:
        marks = [line.mark(column.key) for line in lines]
        longest = max(len(notes.rank(m)) for m in marks)
        head.append(column.title)
        for row, m in zip(rows, marks, strict=True):
            parts = [] if column.over else [notes.skill(m)]
            row.append(GAP.join([*parts, notes.rank(m).rjust(longest)]))
        if any(m.above_chance for m in marks):
            head.append(f"{column.title.split()[0]} above chance")
            for row, m in zip(rows, marks, strict=True):
                row.append("/".join(map(str, m.above_chance)) if m.above_chance else "-")
    return head, rows


def _table(corner: str, head: Sequence[str], rows: list[list[str]], kinds: Sequence[str], width: int) -> list[str]:
    """Columns to the right, headings over several lines; what does not fit follows beneath."""
    names = [corner, *(row[0] for row in rows)]
    first = max(map(len, names))
    stacks = [escaped(title).translate({ord(c): None for c in "(),"}).split() for title in head]
    widths = [max(len(word) for word in [*stack, *(row[i + 1] for row in rows)]) for i, stack in enumerate(stacks)]
    needed = first + sum(widths) + len(GAP) * len(widths)
    gap = " " if width < needed <= width + len(widths) else GAP  # a narrow gap where it keeps a table whole
    # In an order of somebody's choice kinds may stand among one another.
    runs = [kind for kind, _ in itertools.groupby(kinds)]
    grouped = len(runs) == len({*runs}) and "model" not in runs[1:]
    out: list[str] = []
    start = 0
    while start < len(head):
        stop, used = start, first
        while stop < len(head) and (stop == start or used + len(gap) + widths[stop] <= width):
            used += len(gap) + widths[stop]
            stop += 1
        here = range(start, stop)
        deepest = max(len(stacks[i]) for i in here)
        if out:
            out.append("")
        for depth in range(deepest):
            cells = [(stacks[i][depth] if depth < len(stacks[i]) else "").rjust(widths[i]) for i in here]
            out.append(gap.join([(corner if depth == 0 else "").ljust(first), *cells]).rstrip())
        out.append("-" * used)
        for k, row in enumerate(rows):
            if k and grouped and kinds[k] != kinds[k - 1]:
                out.append(HEADINGS[kinds[k]])
            out.append(gap.join([row[0].ljust(first), *(row[i + 1].rjust(widths[i]) for i in here)]).rstrip())
        start = stop
    return out
