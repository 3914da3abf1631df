"""Capacity over state, accuracy over distance, s over length: what a point is, what is told, light and dark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lra.marks import abilities
from lra.plot import render
from lra.record import record
from lra.results import load
from tests.help import scored
from tests.plot.test_plot import readable, words

DARK = ("", "-dark")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scored.far(tmp_path_factory.mktemp("far"))


@pytest.fixture(scope="module")
def drawn(folder: Path) -> dict[str, Figure]:
    return dict(render.figures(load(folder), ("capacity", "reach", "twins")))


def marks(figure: Figure) -> list[tuple[float, float, str]]:
    """Single points: place and marker."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]), str(line.get_marker()))
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xdata()) == 1
    ]


@pytest.mark.parametrize("kind", ["capacity", "reach", "twins"])
def test_light_and_dark_are_the_same_and_can_be_read(drawn: dict[str, Figure], kind: str) -> None:
    light, dark = (drawn[f"{kind}-ability-float32{shade}"] for shade in DARK)
    for figure in (light, dark):
        readable(figure)
    assert words(light) == words(dark) and marks(light) == marks(dark)
    first, second = (np.array(figure.get_facecolor())[:3].mean() for figure in (light, dark))
    assert first > 0.9 and second < 0.1


def test_what_the_jacobian_lets_through_is_not_made_up(tmp_path: Path) -> None:
    """A run without it on record has no bar either, and does not pass for one that sees all."""
    folder = scored.far(tmp_path)
    for path in folder.rglob("*.json"):
        raw = json.loads(path.read_text())
        if raw["model"] == "local":
            raw["contract"].pop("reach", None)
            path.write_text(json.dumps(raw | {"digest": record.digest_of(raw)}))
    figure = dict(render.figures(load(folder), ("reach",)))["reach-ability-float32"]
    assert "Jacobian not on record: local on Needle (1024)." in " ".join(words(figure).split())


def test_a_capacity_is_a_point_over_the_state(folder: Path, drawn: dict[str, Figure]) -> None:
    figure = drawn["capacity-ability-float32"]
    found = {c.model: c for c in abilities.each(load(folder).abilities) if c.row == "recall-128"}
    points = {x: (y, marker) for x, y, marker in marks(figure)}
    gla = found["gla"].capacity
    assert points[1024.0][0] == gla.value and gla.seeds == 2
    spans = [line.get_ydata() for line in figure.axes[0].lines if list(line.get_xdata()) == [1024.0] * 2]
    assert [list(span) for span in spans] == [[gla.low, gla.high]]
    assert points[16_384.0] == (64, "^"), "beyond all that was asked"
    assert any(marker == "v" and y == 2 for _, y, marker in marks(figure)), "below it"
    assert "Without a state in floats: fnet." in words(figure) and len(marks(figure)) == 6


def test_a_line_says_where_the_jacobian_ends(drawn: dict[str, Figure]) -> None:
    figure = drawn["reach-ability-float32"]
    (bar,) = marks(figure)
    assert bar[2] == "|" and 16 * 2**0.5 < bar[0] < 32, "local, whose last octave in sight is 16 to 31"
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 10]
    assert len(lines) == len(scored.FAR) and list(lines[0].get_xdata()) == [2 ** (i + 0.5) for i in range(10)]


def test_other_lengths_stand_beside_the_trained_one_and_refusals_are_told(drawn: dict[str, Figure]) -> None:
    figure = drawn["twins-ability-float32"]
    assert {x for x, _, marker in marks(figure) if marker == "|"} == {64.0}
    ends = {tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() not in ("|", "None")}
    assert ends == {(64, 128, 256), (64,)}
    text = words(figure)
    assert f"linformer on Shift at 128 ({scored.REFUSED})" in " ".join(text.split()) and "test_len" not in text


def test_ablations_are_drawn_by_short_names_and_other_training_is_not(tmp_path: Path) -> None:
    state = {"state_floats": 512, "config_hash": "1" * 16}
    scored.capable(tmp_path, "mamba2", 9.0, state_floats=1024)
    scored.capable(tmp_path, "mamba2", 4.0, variant=["model.mixer.state=32"], **state)
    scored.capable(
        tmp_path, "mamba2", 4.0, variant=["size.dim=32", "train.steps=9"], **state | {"config_hash": "2" * 16}
    )
    wide = [f"model.mixer.{word}=1.5" for word in ("expand", "and_so_forth", "and_on")]
    scored.capable(tmp_path, "mlstm", 4.0, variant=wide, **state)
    for figure in dict(render.figures(load(tmp_path), ("capacity",))).values():
        readable(figure)
        names = {text.get_text() for text in figure.axes[0].texts}
        assert names == {"mamba2", "mamba2 state=32", "mlstm expand=1.5 and_so_forth…"}
        assert "Not drawn: 1 cells of runs that were trained or tested otherwise." in words(figure)


def test_what_nobody_asked_is_not_drawn(tmp_path: Path) -> None:
    scored.board(tmp_path, {"linear": {"shift": (1.0,)}})
    assert not list(render.figures(load(tmp_path), ("capacity", "reach", "twins")))
