"""How many parameters a model has, beside the Transformer's."""

from __future__ import annotations

from lra.leaderboard.board import Line

TITLE = "Parameters"
ABOUT = "relative to the Transformer's, where they differ most"


def text(line: Line) -> str:
    return "-" if line.ratio is None else f"{line.ratio:.2f}x"


def value(line: Line) -> float | None:
    return line.ratio


def odd(line: Line) -> bool:
    return line.out_of_line
