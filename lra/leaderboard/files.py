"""What is published: the boards in every format that is written to the results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lra.leaderboard import csv, latex, markdown, page, terminal
from lra.leaderboard.abilities import Abilities
from lra.leaderboard.predict import Table
from lra.leaderboard.view import Board

NAMES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "leaderboard.html")


class Boards(list[Board]):
    """Boards that print as the command prints them. able: those of abilities."""

    def __init__(self, shown: Sequence[Board], able: Sequence[Abilities] = ()) -> None:
        super().__init__(shown)
        self.able = list(able)

    def __repr__(self) -> str:
        return terminal.render(self, able=self.able)


def files(
    shown: Sequence[Board],
    drawn: Mapping[str, bytes],
    able: Sequence[Abilities] = (),
    predicted: Sequence[Table] = (),
) -> dict[str, bytes]:
    """File name -> content, of every format that is written to the results folder. `drawn`: the
    figures, as `lra.plot.render.render` gives them; of them the page takes the bubble charts."""
    texts = (
        markdown.render(shown, able, predicted),
        csv.render(shown, able),
        latex.render(shown, able),
        page.render(shown, drawn, able, predicted),
    )
    return {name: text.encode() for name, text in zip(NAMES, texts, strict=True)}
