"""The part of a board that somebody chose. What rests on comparisons stays as it is on the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from lra.errors import UserError, nearest
from lra.leaderboard.board import KINDS, Board, Column, Line
from lra.marks.query import Query, base, matches

COMMAND = "python -m lra.leaderboard"
EXTRA = ("parameters", "speed", "memory")  # columns that are not of an exam
NAME = "name"


def narrowed(board: Board, cells: pd.DataFrame, query: Query) -> Board:
    """cells: those of the board that are chosen. Floors stay, as the measure of what is beside them."""
    tasks = dict(zip(cells["row"], cells.task, strict=True))
    columns = _columns(board, tasks, query)
    models, keys = set(cells.model), {c.key for c in columns}

    def cut(line: Line) -> Line:
        return replace(line, marks={key: mark for key, mark in line.marks.items() if key in keys})

    lines = [cut(line) for line in board.lines]
    shown = [line for line in lines if line.kind != "floor" and line.name in models]
    shown.sort(key=lambda line: query.place("model", base(line.name)))  # within a glob the best first
    shown = _sorted(shown, columns, tasks, query.sort) if query.sort else shown
    shown.sort(key=lambda line: KINDS.index(line.kind))
    floors = [line for line in lines if line.kind == "floor" and line.marks]
    costly = any(wanted(query, extra) for extra in ("speed", "memory"))
    shown = shown if costly else [replace(line, costs={}) for line in shown]
    measured = board.measured if any(line.costs for line in shown) else None
    more = {
        "points": tuple(p for p in board.points if p["model"] in models),
        "pretrained": tuple((cut(line), base) for line, base in board.pretrained if line.name in models),
    }
    return replace(board, columns=columns, lines=(*shown, *floors), measured=measured, chosen=query, **more)


def refused(query: Query, frames: Sequence[pd.DataFrame], averages: Sequence[int]) -> None:
    """UserError for a column that no board has. frames: of chosen cells, with `row` and `task`."""
    rows = sorted({name for frame in frames for key in ("task", "row") for name in frame[key]})
    names = [*rows, *(f"avg{n}" for n in averages), *EXTRA]
    for glob in query.columns:
        if not any(matches(glob, name) for name in names):
            raise UserError(f"columns: {glob} is no column; there is {', '.join(names)}.{nearest(glob, names)}")
    if query.sort and query.sort not in (*names, NAME):
        there = f"{NAME}, {', '.join(names)}"
        raise UserError(f"sort: {query.sort} is no column; there is {there}.{nearest(query.sort, names)}")


def wanted(query: Query, extra: str) -> bool:
    """Does a choice show a column that is not of an exam?"""
    return not query.columns or any(matches(glob, extra) for glob in query.columns)


def _columns(board: Board, tasks: Mapping[str, str], query: Query) -> tuple[Column, ...]:
    """Exams in the order that they are named in; averages where all of their exams are, or somebody asks for them."""
    kept = [c for c in board.columns if (set(c.over) or {c.key}) <= tasks.keys()]
    if query.task:
        kept.sort(key=lambda c: query.place("task", *_names(c, tasks)) if not c.over else len(query.task))
    if not query.columns:
        return tuple(kept)
    known = [c for c in board.columns if c.over or c.key in tasks]
    shown = [c for c in known if query.place("columns", *_names(c, tasks)) < len(query.columns)]
    return tuple(sorted(shown, key=lambda c: query.place("columns", *_names(c, tasks))))


def _names(column: Column, tasks: Mapping[str, str]) -> tuple[str, ...]:
    return (column.key,) if column.over else (column.key, tasks[column.key])


def _sorted(lines: list[Line], columns: Sequence[Column], tasks: Mapping[str, str], by: str) -> list[Line]:
    """Most first, of parameters least; what is not known last."""
    if by == NAME:
        return sorted(lines, key=lambda line: line.name)
    if by == "parameters":
        return sorted(lines, key=lambda line: (line.ratio is None, line.ratio))
    found = next((c for c in columns if by in _names(c, tasks)), None)
    if found is None:  # which another board has
        return lines
    values = {line.name: line.mark(found.key).accuracy for line in lines}
    return sorted(lines, key=lambda line: (values[line.name] is None, -(values[line.name] or 0)))
