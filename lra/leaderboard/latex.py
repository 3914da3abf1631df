r"""The boards as LaTeX tables to paste into a paper: \usepackage{booktabs}, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from lra import console
from lra.cost.growth import TABLE_2
from lra.leaderboard import abilities, notes, pretrained
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.board import OUT_OF_LINE, Board, Column, Line
from lra.leaderboard.chosen import COMMAND
from lra.marks import said
from lra.marks.abilities import whole

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$",
    "…": r"\dots{}", "™": r"\texttrademark{}", "–": "--", "—": "---",
    "[": "{[}", "]": "{]}", "*": "{*}",  # which after the end of a row would be its options
}  # fmt: skip
KNOWN = 0x180  # the Latin letters of the first code pages, which LaTeX sets without a package


def escaped(text: str) -> str:
    """Text of a record as text: in one line, with no command, and of letters that can be set."""
    return "".join(SPECIAL.get(c) or (c if ord(c) < KNOWN else "?") for c in console.line(text))


def commented(text: str) -> str:
    """The same as a line that is not set."""
    return f"% {console.line(text)}"


def render(boards: Sequence[Board], able: Sequence[Abilities] = (), command: str = COMMAND) -> str:
    out = [rf"% Made by {command} from the records; needs \usepackage{{booktabs}}."]
    for board in boards:
        out += ["", *_scores(board)]
        if board.measured:
            out += ["", *_costs(board)]
        if board.pretrained:
            out += ["", *_pretrained(board)]
    for board in able:
        out += ["", *_abilities(board)]
    return "\n".join(out) + "\n"


def _scores(board: Board) -> list[str]:
    columns = board.columns
    rows = []
    for i, line in enumerate(board.lines):
        if i and line.kind != board.lines[i - 1].kind:
            rows.append(r"\midrule")
        rows.append(" & ".join([_name(line), *(_score(line, c) for c in columns)]) + r" \\")
    head = " & ".join(["Model", *map(heading, columns)]) + r" \\"
    caption = rf"Test accuracy (\%) $\pm$ half of its 95\,\% interval; {escaped(board.title)}. Bold: best of its"
    caption += " column, or equal to it by its mean and not told apart from it (paired tests, Holm)."
    if not all(c.standard for c in columns if not board.empty(c)):
        caption += " Headings in brackets are stand-ins for the standard exams."
    if any(line.out_of_line for line in board.lines):
        caption += rf" $^\dagger$ parameters differ from the Transformer's by more than {100 * OUT_OF_LINE:.0f}\,\%."
    return [*_table("l" + "r" * len(columns), head, rows, caption), *map(commented, notes.beneath(board))]


def _costs(board: Board) -> list[str]:
    rows = [
        " & ".join([_name(line), *map(escaped, notes.ratios(line, ""))]) + r" \\" for line in board.lines if line.costs
    ]
    lengths = " & ".join(f"{n // 1024}K" for n in TABLE_2)
    span = len(TABLE_2)
    head = (
        rf" & \multicolumn{{{span}}}{{c}}{{relative speed}} & \multicolumn{{{span}}}{{c}}{{relative memory}} \\"
        rf" \cmidrule(lr){{2-{1 + span}}} \cmidrule(lr){{{2 + span}-{1 + 2 * span}}} Model & {lengths} & {lengths} \\"
    )
    caption = f"A training step relative to the Transformer's: {escaped(board.measured or '')}; {escaped(board.title)}."
    return _table("l" + "r" * 2 * span, head, rows, caption)


def _pretrained(board: Board) -> list[str]:
    head, *rows = (
        " & ".join(escaped(cell) for cell in line) + r" \\" for line in (pretrained.HEAD, *pretrained.rows(board))
    )
    return _table("lll" + "r" * (len(pretrained.HEAD) - 3), head, rows, escaped(f"{notes.PRETRAINED} {board.title}."))


def _abilities(board: Abilities) -> list[str]:
    """Of a cell s stands on the first line; small on the second how many seeds, and after how many sequences."""
    columns = (*board.columns, *board.extents)
    asks = " & ".join(["", "", *(_stacked(c.asks, r"\scriptsize ") for c in columns)]) + r" \\"
    names = " & ".join(["Model", "Learnt", *(_stacked(c.title) for c in columns)]) + r" \\"
    rows = [
        " & ".join([escaped(board.called(m)), escaped(board.counts(m)), *(_able(board, m, c) for c in columns)])
        + r" \\"
        for m in board.models
    ]
    caption = (
        f"{escaped(board.title.capitalize())}: $s$; seeds that have learnt the exam, thousands of training sequences"
        " until half of them had. Above each exam what it asks for. Bold: learnt by every seed."
    )
    table = _table("lr" + "r" * len(columns), f"{asks}\n{names}", rows, caption)
    table.insert(table.index(r"\small") + 1, r"\setlength{\tabcolsep}{3pt}")
    return [*table, *map(commented, abilities.beneath(board))]


def _stacked(words: str, size: str = "") -> str:
    lines = r"\\".join(f"{{{size}{escaped(word)}}}" for word in words.split())
    return rf"\shortstack[r]{{{lines}}}"


def _able(board: Abilities, model: str, column: abilities.Column) -> str:
    cell = board.cells.get((model, column.key))
    if cell is None or not cell.seeds or column.extent:
        return escaped(board.text(model, column)).replace("-", "--")
    first = said.score(cell).replace("-", "$-$")
    first = rf"\textbf{{{first}}}" if whole(cell) else first
    below = escaped(f"{said.learnt(cell, '/')}, {said.thousands(cell)}")
    return rf"\shortstack[r]{{{first}\\{{\scriptsize {below}}}}}"


def heading(column: Column, narrow: bool = False) -> str:
    """What departs from the standard exam stands small on a second line, in a narrow table each part on one."""
    first, bracket, rest = column.title.partition(" (")
    if not bracket:
        return escaped(first)
    parts = f"({rest}".replace(", ", ",\n").split("\n") if narrow else [f"({rest}"]
    below = r"\\".join(rf"{{\scriptsize {escaped(part)}}}" for part in parts)
    return rf"\shortstack[r]{{{escaped(first)}\\{below}}}"


def _name(line: Line) -> str:
    return escaped(notes.name(line))


def _score(line: Line, column: Column) -> str:
    mark = line.mark(column.key)
    if mark.accuracy is None:
        return escaped(notes.score(mark)).replace("-", "--")
    signs = notes.marked(mark)
    text = notes.score(mark, r"\,$\pm$\,").removesuffix(signs) + escaped(signs)
    return rf"\textbf{{{text}}}" if mark.best else text


def _table(shape: str, head: str, rows: Sequence[str], caption: str) -> list[str]:
    return [
        r"\begin{table}", r"\centering", r"\small", rf"\begin{{tabular}}{{{shape}}}", r"\toprule", head, r"\midrule",
        *rows, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}",
    ]  # fmt: skip
