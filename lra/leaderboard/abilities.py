"""What a board of abilities shows, worked out once for all formats: models, and what each exam asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lra import console
from lra.marks import abilities, said
from lra.marks.capacity import LEVEL, NAMES
from lra.marks.query import Query, base, called
from lra.results import Results

EXTENT = {"pairs": "how many pairs", "distance": "how far back", "tokens": "how many tokens"}


@dataclass(frozen=True)
class Column:
    key: str  # the row of the records
    title: str
    asks: str
    extent: bool = False  # shows how far up the octaves of the row's difficulty a model is good


@dataclass(frozen=True)
class Abilities:
    """The cells of one budget and precision. cells: (model, column's key) -> a row of `Results.abilities`."""

    budget: str
    dtype: str
    columns: tuple[Column, ...]
    extents: tuple[Column, ...]  # beside them
    models: tuple[str, ...]  # those that have learnt most first, runs with overrides last
    variants: frozenset[str]  # of the models, runs with overrides
    cells: Mapping[tuple[str, str], Any]
    chosen: Query = field(default_factory=Query)  # what of a larger board this shows

    @property
    def title(self) -> str:
        return f"abilities, budget {self.budget}, {self.dtype}"

    def text(self, model: str, column: Column, whole: bool = True) -> str:
        """ "5 of 5, 0.998, 12,800": seeds that have learnt it, s, sequences to learn; a failure's status, or "-". Else
        "5/5 12.8k", as `lra.marks.said.brief` has it. Of an extent "12 [9, 15]"."""
        cell = self.cells.get((model, column.key))
        if cell is None:
            return said.NOTHING
        if column.extent:
            return said.extent(cell)
        if not cell.seeds:
            return said.learnt(cell)
        if not whole:
            return f"{said.learnt(cell, '/')} {said.brief(cell)}"
        return ", ".join((said.learnt(cell), said.score(cell), said.sequences(cell)))

    def called(self, model: str) -> str:
        return called(self.models)[model]

    def counts(self, model: str) -> str:
        """How many of its exams every seed has learnt: "9 of 12"."""
        own = [self.cells[model, c.key] for c in self.columns if (model, c.key) in self.cells]
        return f"{sum(map(abilities.whole, own))} of {len(own)}"


def boards(results: Results) -> list[Abilities]:
    """One for each budget and precision with a run."""
    chosen, found = results.chosen, []
    for group, part in results.abilities.groupby(abilities.GROUP, sort=True):
        tasks = dict(zip(part["row"], part.task, strict=True))
        if chosen.columns:
            part = part[[chosen.place("columns", r, tasks[r]) < len(chosen.columns) for r in part["row"]]]
        found += [_board(group, part, chosen, tasks)] if len(part) else []
    return found


def _board(group: tuple[str, ...], part: pd.DataFrame, chosen: Query, tasks: Mapping[str, str]) -> Abilities:
    rows, models = abilities.ordered(part)
    for key in ("task", "columns"):
        rows.sort(key=lambda row: chosen.place(key, row, tasks[row]))
    models.sort(key=(lambda name: name) if chosen.sort == "name" else lambda name: chosen.place("model", base(name)))
    exams = dict(zip(part["row"], part.exam, strict=True))
    columns = tuple(Column(row, exams[row].heading(row), exams[row].asks or said.NOTHING) for row in rows)
    variants = frozenset(part.model[part.variant.astype(bool)])
    cells = {(c.model, c.row): c for c in abilities.each(part)}
    read = {c.row: c.capacity.of for c in cells.values() if c.capacity is not None}
    extents = tuple(
        Column(c.key, f"{c.title}: {NAMES[read[c.key]]}", EXTENT[read[c.key]], True) for c in columns if c.key in read
    )
    return Abilities(*group, columns, extents, tuple(models), variants, cells, chosen)


def beneath(board: Abilities) -> list[str]:
    """The sentences under a board, in order; only those that apply."""
    cells = list(board.cells.values())
    scored = [c for c in cells if c.seeds]
    out = []
    if scored:
        threshold = max((c.threshold for c in scored if c.threshold is not None), default=1.0)
        out.append(
            "Seeds that have learnt the exam of all that ended, median s over them, and training sequences until half"
            f" of them had learnt it (on valid). {said.LEGEND.format(threshold=threshold)}"
        )
        limits = sorted({int(c.limit) for c in scored if c.limit is not None})
        out += [
            f">{limit:,}: not learnt within {limit:,} sequences at one learning rate, which says nothing of more."
            for limit in limits
        ]
    if board.extents:
        out.append(
            f"{', '.join(c.title for c in board.extents)}: where s falls to {LEVEL:g} on the way to more difficult"
            " answers, between the middles of octaves, with its 95 % interval over seeds and sequences (one seed: over"
            " sequences); >= the start of the last octave where it never falls, < that of the first where it is below."
        )
    if any(c.capacity is not None and c.sight is not None for c in cells):
        out.append(
            "Behind the bar: the same of a model that is right wherever a token can move the answer, by the Jacobian"
            " of the model as it starts."
        )
    if machines := sorted({c.machine for c in scored if c.machine}):
        out.append(f"Core-seconds, in the CSV and on the page, are those of {' and '.join(machines)}.")
    for what, of in (
        ("Made before what was run has changed, and to be made again", lambda c: c.stale),
        ("Breaks the contract of models, and is to be read with that in mind", lambda c: c.contract),
        ("Positions that cannot move an answer, as the model is read out", _blind),
        ("Edited after it was written", lambda c: ", ".join(c.edited)),
        ("Without a score", said.failure),
    ):
        if listed := "; ".join(_told(board, of)):
            out.append(f"{what}: {listed}.")
    return out


def conditions(cell: Any, column: Column) -> Iterator[str]:
    """All that a cell depends on and a reader may ask for."""
    yield f"row {column.key}"
    if cell.seeds:
        yield f"{cell.learnt} of {cell.seeds} seed{'s' * (cell.seeds > 1)} learnt it"
        yield f"s {cell.least:.3f} to {cell.most:.3f}" if cell.seeds > 1 else f"s {cell.score:.4f}"
        if cell.low is not None:
            of = "mean" if cell.seeds > 1 else "trained model"
            yield f"95 % interval of the {of} {cell.low:.3f} to {cell.high:.3f}"
        yield f"accuracy {100 * cell.accuracy:.1f} %, floor {100 * cell.floor:.1f}, ceiling {100 * cell.ceiling:.1f}"
        if cell.items is not None:
            yield f"{int(cell.items):,} answers"
        if (seconds := said.core_seconds(cell)) != said.NOTHING:
            yield f"{seconds} core-seconds on {cell.machine}"
        if told := said.at_rates(cell):
            yield told
        if cell.capacity is not None:
            yield f"{NAMES[cell.capacity.of]} {said.capacity(cell)} {cell.capacity.of}"
        if cell.sight is not None:
            yield f"by its Jacobian {cell.sight.words} tokens back"
        if cell.kinds:
            yield ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in cell.kinds.items())
        for twin in cell.twins:
            at = f"length {twin.length:,}{' (trained)' if twin.trained else ''}"
            if twin.score is not None or twin.refused:
                yield f"{at}: s {twin.score:.3f}" if twin.score is not None else f"{at}: {twin.refused}"
    yield from (text for text in (said.failure(cell), cell.stale, *cell.departs) if text)
    if cell.parameters is not None:
        yield console.parameters(cell)
    if cell.state_floats is not None:
        yield f"{int(cell.state_floats):,} floats of state"
    yield f"data {cell.fingerprint or 'unknown'}"
    yield from cell.run_ids


def _blind(cell: Any) -> str | None:
    return f"{100 * cell.blind:.1f} %" if cell.blind else None


def _told(board: Abilities, of: Callable[[Any], str | None]) -> Iterator[str]:
    """What is to be said of cells, each once for a model, with the columns that it holds for."""
    for model in board.models:
        found: dict[str, list[str]] = {}
        for column in board.columns:
            cell = board.cells.get((model, column.key))
            if cell is not None and (text := of(cell)):
                found.setdefault(text, []).append(column.title)
        yield from (f"{model} on {', '.join(titles)} ({text})" for text, titles in found.items())
