"""The heat map of abilities: a cell says what its seeds did, deeper where more is learnt, on light pages and dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lra.plot import render
from lra.plot.heat import heat
from lra.results import load
from tests.help import scored
from tests.plot.test_plot import readable, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored.board(tmp_path_factory.mktemp("able"), scored.MANY)


def ground(figure: Figure, text: str) -> list[tuple[float, ...]]:
    """Colours of the cells that hold a text."""
    (axes,) = figure.axes
    boxes = [p for p in axes.patches if isinstance(p, Rectangle)]
    places = [t.get_position() for t in axes.texts if t.get_text() == text]
    return [
        to_rgb(b.get_facecolor())
        for x, y in places
        for b in boxes
        if b.contains_point(axes.transData.transform((x, y)))
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_a_cell_says_what_its_seeds_did(folder: Path, dark: bool) -> None:
    figure = heat(load(folder).abilities, "t", dark=dark)
    readable(figure)
    said = [t.get_text() for t in figure.axes[0].texts]
    assert said.count("3/3") == 12 and said.count("1/3") == 8 and said.count("1/1+1") == 4
    assert said.count("diverged") == 1 and said.count("-") == 10, "a failure, exams that were not sat"
    assert {"fixed\noffset", "Shift", "carry"} <= set(said)
    bold = {t.get_text() for t in figure.axes[0].texts if t.get_fontweight() == "bold"}
    assert bold == {"3/3"}, "every seed has learnt it, and none has failed"
    assert [m for m in said if m in scored.MANY] == ["transformer", "linear", "nystromformer_of_mine", "local"]
    deep, pale = (np.mean([np.sum(c) for c in ground(figure, text)]) for text in ("3/3", "0/1"))
    assert (deep > pale) == dark, "what is learnt stands out from the page"
    assert "Ground: median s" in words(figure) and "within 160,000" in words(figure)


def test_text_can_be_read_on_its_ground(folder: Path) -> None:
    """A contrast of 3 or more (WCAG 2.1) in every cell."""

    def luminance(colour: object) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for dark in (False, True):
        (axes,) = heat(load(folder).abilities, "t", dark=dark).axes
        for box in axes.patches[:-5]:  # without the scale
            for text in axes.texts:
                at = axes.transData.transform(text.get_position())
                if box.get_edgecolor()[3] == 0 and box.contains_point(at):
                    one, other = sorted((luminance(box.get_facecolor()), luminance(text.get_color())))
                    assert (other + 0.05) / (one + 0.05) > 3


def test_it_is_drawn_for_both_kinds_of_pages_without_variants(folder: Path, tmp_path: Path) -> None:
    scored.board(tmp_path, {"linear": {"shift": (1.0,)}})
    scored.run(tmp_path, "linear", 1.0, variant=["train.steps=3"], config_hash="1" * 16)
    drawn = dict(render.figures(load(tmp_path)))
    assert list(drawn) == ["abilities-ability-float32", "abilities-ability-float32-dark"]
    for figure in drawn.values():
        readable(figure)
        assert "Not drawn: 1 cells of runs with overrides." in words(figure) and "train.steps" not in words(figure)
    first, second = (np.array(figure.get_facecolor())[:3].mean() for figure in drawn.values())
    assert first > 0.9 and second < 0.1
