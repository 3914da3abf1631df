"""The ability card of a model: a line for each exam it has sat, for a terminal, a notebook, and at a sweep's end.

python -m lra sweep=abilities model=NAME        lra.abilities(MyMixer)
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra import console
from lra.errors import UserError
from lra.marks import abilities, said
from lra.record.place import options
from lra.results import load
from lra.runner.elsewhere import refused, typed
from lra.settings.own import Asked

BUDGET = "ability"
WIDTH = 80  # of lines on a terminal
REFUSED = ": refused: "  # as a sweep's table says it
HEAD = ("exam", "asks for", "learnt", "s", "sequences", "core-s", "rates")


class AbilityCard:
    """cells: rows of `lra.results.Results.abilities`, of one model or more. Printed, a table each; a notebook shows
    the same with colours."""

    def __init__(self, cells: pd.DataFrame) -> None:
        self.cells = cells

    def __repr__(self) -> str:
        return "\n\n".join(_text(part) for part in self._models()) or "no ability exam has a record here yet"

    def _repr_html_(self) -> str:
        return "".join(_html(part) for part in self._models()) or f"<p>{escape(repr(self))}</p>"

    def _models(self) -> list[pd.DataFrame]:
        keys = [*abilities.GROUP, "model"]
        return [part.sort_values("row", key=_places(part)) for _, part in self.cells.groupby(keys, sort=True)]


def card(folder: str | Path, model: str, run_ids: Sequence[str] | None = None) -> AbilityCard:
    """What the records of a folder say of a model, with and without overrides; with `run_ids` of those cells alone that
    hold one of these runs."""
    found = load(folder).abilities
    found = found[found.model.str.split(" ").str[0] == model]
    if run_ids is not None:
        found = found[np.array([bool(set(ids) & set(run_ids)) for ids in found.run_ids], bool)]
    return AbilityCard(found)


def taken(what: Asked) -> AbilityCard:
    """The card of the one model that the words name, after its exams, of which those that are recorded are not done
    again. Raises UserError for bad input, RuntimeError where nothing was recorded."""
    words = ("sweep=abilities", *what.words)
    chosen = dict(word.split("=", 1) for word in words if "=" in word)
    model = chosen.get("model", "")
    if not model or any(sign in model for sign in ",*("):
        raise UserError(f"model: {model!r} is not one model; a card is of one: name it, as model=performer")
    code, heard = typed(replace(what, words=words))
    if error := refused(code, heard):
        raise error
    folder = options([f"results_dir={chosen['results_dir']}"] if "results_dir" in chosen else [])["results_dir"]
    found = card(os.path.expanduser(folder), model)  # noqa: PTH111
    found.cells = found.cells[found.cells.budget == chosen.get("budget", BUDGET)]
    if found.cells.empty and (why := next((line for line in heard if REFUSED in line), None)):
        raise UserError(why.split(REFUSED, 1)[1].strip())
    if code not in (0, 1) or found.cells.empty:  # 1: some exam has not ended well, which the card says
        raise RuntimeError(f"the exams were stopped (exit code {code}); what is recorded is not done again")
    return found


def _places(part: pd.DataFrame) -> Any:
    rows, _ = abilities.ordered(part)
    return lambda column: column.map({row: i for i, row in enumerate(rows)})


def _title(part: pd.DataFrame) -> str:
    cells = abilities.each(part)
    learnt, some = sum(map(abilities.whole, cells)), sum(c.learnt > 0 and not abilities.whole(c) for c in cells)
    by_some = f", {some} more by some seeds" if some else ""
    first = cells[0]
    return f"{first.model}, budget {first.budget}, {first.dtype}: {learnt} of {len(cells)} exams learnt{by_some}"


def _lines(part: pd.DataFrame) -> list[list[str]]:
    """HEAD of each exam."""
    return [
        [
            c.exam.heading(c.row),
            c.exam.asks or said.NOTHING,
            _learnt(c),
            said.score(c),
            said.sequences(c),
            said.core_seconds(c),
            said.rates(c),
        ]
        for c in abilities.each(part)
    ]


def _learnt(cell: Any) -> str:
    """Of one seed yes or no."""
    if cell.seeds != 1 or cell.failed:
        return said.learnt(cell)
    return "yes" if cell.learnt else "no"


def _notes(part: pd.DataFrame) -> list[str]:
    """What the columns mean, and what has no score."""
    cells = abilities.each(part)
    out = [f"{c.exam.heading(c.row)}: {told}" for c in cells if (told := said.failure(c))]
    scored = [c for c in cells if c.seeds]
    if not scored:
        return out
    thresholds = [c.threshold for c in scored if c.threshold is not None]
    out.append(said.LEGEND.format(threshold=max(thresholds, default=1.0)))
    out.append(
        "sequences: of training at one rate, until it was learnt on valid (half of several seeds); behind > it was not "
        "learnt by then, which says nothing of more."
    )
    machines = sorted({c.machine for c in scored if c.machine})
    out.append(f"core-s: the same in core-seconds, on {' and '.join(machines)}." if machines else "")
    if any(said.OPEN in said.rates(c) for c in scored):
        out.append(
            f"rates: learning rates that learn; {said.OPEN} where the next one was not tried or not trained to the end."
        )
    return [line for line in out if line]


def _text(part: pd.DataFrame) -> str:
    lines = [[console.line(text) for text in line] for line in _lines(part)]
    width = max(len(line[1]) for line in (*lines, HEAD))
    lines = [[line[0], line[1].ljust(width), *line[2:]] for line in lines]
    head = [HEAD[0], HEAD[1].ljust(width), *HEAD[2:]]
    notes = [line for note in _notes(part) for line in textwrap.wrap(console.line(note), WIDTH)]
    title = textwrap.wrap(console.line(_title(part)), WIDTH)
    return "\n".join([*title, "", console.table(lines, head), "", *notes])


def _html(part: pd.DataFrame) -> str:
    """Colours that can be read on light pages and on dark ones: a half-transparent ground."""
    out = [f"<p><b>{escape(console.line(_title(part)))}</b></p>"]
    cells = "".join(f'<th style="text-align:{"left" if i < 2 else "right"}">{head}</th>' for i, head in enumerate(HEAD))
    out.append(f"<table><thead><tr>{cells}</tr></thead><tbody>")
    for cell, line in zip(abilities.each(part), _lines(part), strict=True):
        ground = f";background:rgba(0,114,178,{0.5 * min(max(cell.score, 0), 1):.3f})" if cell.seeds else ""
        row = ""
        for i, text in enumerate(line):
            style = f"text-align:{'left' if i < 2 else 'right'}{ground if i == 3 else ''}"
            row += f'<td style="{style}">{escape(console.line(text))}</td>'
        out.append(f"<tr>{row}</tr>")
    notes = "<br>".join(escape(console.line(note)) for note in _notes(part))
    return "".join([*out, f"</tbody></table><p><small>{notes}</small></p>"])
