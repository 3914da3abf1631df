"""Pretrained beside trained from scratch: a table of its own, for the one has seen the inputs more often."""

from __future__ import annotations

from lra.leaderboard import notes
from lra.leaderboard.board import Board, Mark

HEAD = (
    "Model",
    "exam",
    "pretraining",
    "from scratch, %",
    "core-minutes",
    "pretrained, %",
    "of pretraining",
    "of training",
)


def rows(board: Board) -> list[tuple[str, ...]]:
    """HEAD of each pretrained model and exam."""
    out = []
    for line, other in board.pretrained:
        for column in board.columns:
            if (mark := line.mark(column.key)) == Mark() or column.over:
                continue
            base = other.mark(column.key) if other is not None else Mark()
            spent = (minutes(seconds) for seconds in (mark.pretraining_core_seconds, mark.core_seconds))
            score, before = notes.score(mark, " ± "), notes.score(base, " ± ")
            told = mark.pretraining or "-"
            out.append((notes.called(line), column.title, told, before, minutes(base.core_seconds), score, *spent))
    return out


def minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:.2g}"
