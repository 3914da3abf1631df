"""What is published: the boards in every format that is written to the results folder."""

from __future__ import annotations

from collections.abc import Mapping

from lra.leaderboard import csv, latex, markdown, page, terminal
from lra.leaderboard.view import Board

NAMES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html")


class Boards(list[Board]):
    """Boards that print as the command prints them."""

    def __repr__(self) -> str:
        return terminal.render(self)


def files(shown: list[Board], drawn: Mapping[str, bytes]) -> dict[str, bytes]:
    """File name -> content, of every format that is written to the results folder. `drawn`: the
    figures, as `lra.plot.render.render` gives them; of them the page takes the bubble charts."""
    texts = (markdown.render(shown), csv.render(shown), latex.render(shown), page.render(shown, drawn))
    return {name: text.encode() for name, text in zip(NAMES, texts, strict=True)}
