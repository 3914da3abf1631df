r"""A table for a paper, with what its text must say: to be \input where \usepackage{booktabs,graphicx} is.

    python -m lra.leaderboard model=mine,transformer,per* out=table.tex width=column ours=mine [label=tab:lra]

width=column fits a column of two, width=page the whole. Below the table stand its hyperparameters and a paragraph of
methods, both written from the records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lra.errors import UserError, nearest
from lra.leaderboard import methods, notes
from lra.leaderboard.board import Board, Column, Line, Mark
from lra.leaderboard.latex import commented, escaped, heading
from lra.marks.query import base, matches
from lra.record.record import Record
from lra.settings.words import taken

WIDTHS = ("column", "page")
KEYS = ("width", "ours", "label")
NARROW = 4  # columns that fit a column of a page with their intervals
About = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Paper:
    """ours: globs of models that are called so."""

    width: str = "page"
    ours: tuple[str, ...] = ()
    label: str = "tab:lra"

    @property
    def words(self) -> list[str]:
        ours = [f"ours={','.join(self.ours)}"] if self.ours else []
        return [f"width={self.width}", *ours, f"label={self.label}"]


def asked(words: Sequence[str]) -> tuple[Paper | None, list[str]]:
    """The paper that words ask for, null where there is none, and the other words."""
    given, rest = taken(words, KEYS)
    if (width := given.get("width")) is not None and width not in WIDTHS:
        raise UserError(f"width: {width!r} is not one of {', '.join(WIDTHS)}.{nearest(width, WIDTHS)}")
    if not re.fullmatch(r"[\w:.-]+", given.get("label", "tab")):
        raise UserError(f"label: {given['label']!r} is no label; allowed are letters, digits, and : . - _")
    if "ours" in given:
        given["ours"] = tuple(name.strip() for name in given["ours"].split(","))
    return (Paper(**given) if given else None), rest


def render(boards: Sequence[Board], about: About, records: Mapping[str, Record], paper: Paper, command: str) -> str:
    """records: by the file that a mark names, of all seeds of what is shown."""
    boards = [board for board in boards if any(line.marks for line in board.of("model"))]
    models = {base(line.name) for board in boards for line in board.lines if line.kind != "floor"}
    for glob in paper.ours:
        if not any(matches(glob, model) for model in models):
            raise UserError(f"ours: {glob} is not in the table; there is {', '.join(sorted(models))}")
    if not boards:
        raise UserError("width: there is no accuracy to make a table of")
    out = [rf"% Made by {command} from the records; needs \usepackage{{booktabs,graphicx}}."]
    for i, board in enumerate(boards):
        label = paper.label + (f"-{i + 1}" if i else "")
        names = {line.name: name(line, about, paper) for line in board.lines}
        signed = {line.name: names[line.name] + escaped(notes.DAGGER) * line.out_of_line for line in board.lines}
        own = methods.Told(board, records, names, label, environment(paper))
        out += ["", *_table(board, signed, paper, label), "", *methods.table(own), "", *methods.paragraph(own)]
        out += ["", *map(commented, notes.beneath(board))]
    return "\n".join(out) + "\n"


def environment(paper: Paper) -> str:
    return "table*" if paper.width == "page" else "table"


def name(line: Line, about: About, paper: Paper) -> str:
    """The title that a model's file has, with the words that a run departs by, and whose it is."""
    model = base(line.name)
    title = str(about.get(model, {}).get("title") or model)
    words = (line.title or line.name).split(" ")[1:]
    mine = " (ours)" * any(matches(glob, model) for glob in paper.ours)
    return escaped(" ".join([title, *words])) + mine


def _table(board: Board, names: Mapping[str, str], paper: Paper, label: str) -> list[str]:
    columns = [c for c in board.columns if not board.empty(c)]
    narrow = paper.width == "column"
    halves = not narrow or len(columns) <= NARROW
    rows = [
        " & ".join([names[line.name], *(_score(line.mark(c.key), halves) for c in columns)]) + r" \\"
        for line in board.lines
        if line.kind != "floor"
    ]
    local = _local(board, columns)
    rows += [r"\midrule", " & ".join(["Best local rule", *local]) + r" \\"] * any(text != "--" for text in local)
    head = " & ".join(["Model", *(heading(c, narrow) for c in columns)]) + r" \\"
    kind = environment(paper)
    return [
        rf"\begin{{{kind}}}[t]", r"\centering", r"\footnotesize" if narrow else r"\small",
        rf"\setlength{{\tabcolsep}}{{{'2.5pt' if narrow else '4pt'}}}",
        methods.FITTED, rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}", r"\toprule", head, r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}}", rf"\caption{{{_caption(board, columns, halves)}}}",
        rf"\label{{{label}}}", rf"\end{{{kind}}}",
    ]  # fmt: skip


def _score(mark: Mark, halves: bool) -> str:
    if mark.accuracy is None:
        return escaped(mark.status or "-").replace("-", "--") if mark.status != "ok" else "--"
    half = rf"{{\scriptsize\,$\pm${notes.percent(mark.half)}}}" if halves and mark.half is not None else ""
    number = notes.percent(mark.accuracy)
    return (rf"\textbf{{{number}}}" if mark.best else number) + escaped(notes.marked(mark)) + half


def _local(board: Board, columns: Sequence[Column]) -> list[str]:
    """Of each column the best rule that is blind to long range."""
    names = {c.key: next((m.floor for line in board.lines if (m := line.mark(c.key)).floor), None) for c in columns}
    rules = {line.name: line for line in board.of("floor")}
    marks = [rules[names[c.key]].mark(c.key) if names[c.key] in rules else Mark() for c in columns]
    return [notes.percent(mark.accuracy).replace("-", "--") for mark in marks]


def _caption(board: Board, columns: Sequence[Column], halves: bool) -> str:
    """What the numbers are of, and what they are not."""
    marks = [line.mark(c.key) for line in board.lines if line.kind != "floor" for c in columns]
    seeds = sorted({mark.seeds for mark in marks if mark.seeds})
    widths = sorted(mark.half for mark in marks if mark.half is not None)
    count = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1]))) if seeds else "0"
    out = [rf"Test accuracy (\%), mean of {count} seed{'s' * (count != '1')}; {escaped(board.title)}."]
    if widths and halves:
        out.append(r"$\pm$: half of the 95\,\% interval" + (", of the one trained model." if count == "1" else "."))
    elif widths:
        least, most = notes.percent(widths[0]), notes.percent(widths[-1])
        out.append(rf"Half of the 95\,\% interval is {least} to {most}.")
    if any(mark.best for mark in marks):
        out.append(
            "Bold: best or equal to it by its mean, and not told apart from the best (paired tests, Holm over all"
        )
        out[-1] += f" pairs of {board.compared} models)."
    if not all(c.standard for c in columns):
        out.append("Headings in brackets: stand-ins for the standard exams.")
    if any(line.out_of_line for line in board.lines):
        out.append(r"$^\dagger$: parameters differ from the Transformer's by more than 10\,\%.")
    return " ".join(out)


def files_of(boards: Sequence[Board]) -> list[str]:
    """The records behind what is shown."""
    return [file for b in boards for line in b.lines for mark in line.marks.values() for file in mark.files]
