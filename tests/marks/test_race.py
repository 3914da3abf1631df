"""What is learnt per minute: from curves of steps to curves of minutes, on a board and in a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lra.leaderboard import csv, files, markdown, race
from lra.leaderboard.view import boards
from lra.marks import race as marks
from lra.plot import render, style
from lra.plot.race import mean_curve
from lra.results import load
from tests.help import made, racing
from tests.plot.test_plot import readable, words


def record(**values: object) -> object:
    """Two rates of which the second is dropped after 10 of 40 steps; a step takes 3 core-seconds."""
    curve = [
        {"step": s, "core_seconds": 3.0 * s, "seconds": 6.0 * s, "valid_accuracy": a}
        for s, a in ((5, 0.2), (10, 0.5), (20, 0.3), (40, 0.4))
    ]
    rung = {"step": [1], "valid_loss": [1.0], "valid_accuracy": [0.2], "core_seconds": [3.0]}
    ladder = [{"rate": r, "steps": n, "ended": None, "curve": rung} for r, n in ((1e-3, 40), (1e-2, 10))]
    minutes = {"of": "core", "asked": 2.5, "used": 2.4, "pace": 1e9, "pace_of_steps": 1e9}
    return made.example(**{"curve": curve, "ladder": ladder, "minutes": minutes, "training": {"pace": 2e9}} | values)


def test_a_point_stands_where_all_rates_together_were() -> None:
    """Twice the machine's pace makes of three core-seconds six."""
    found = marks.frame(marks.rows(record()))
    assert list(found.minutes) == pytest.approx([6 * n / 60 for n in (5 + 5, 10 + 10, 20 + 10, 40 + 10)])
    plain = marks.frame(marks.rows(record(training={})))  # at the pace of its measurement
    assert list(plain.minutes) == pytest.approx(list(found.minutes / 2))
    device = {"of": "device", "asked": 2.5, "used": 2.4, "pace": None, "pace_of_steps": None}
    assert list(marks.frame(marks.rows(record(minutes=device))).minutes) == pytest.approx(list(found.minutes))
    assert marks.rows(record(minutes={})) == [] == marks.rows(record(kind="floor"))


def test_what_was_learnt_by_when() -> None:
    points = marks.frame(marks.rows(record(training={"pace": 1e9})))  # at 0.5, 1, 1.5 and 2.5 minutes
    assert marks.learnt(points, 0.45) == marks.Learnt((0.2, 0.5, 0.5), 1.0)
    assert marks.learnt(points, 0.6).to_floor == marks.NEVER and marks.learnt(points, None).to_floor is None
    assert marks.learnt(points.assign(asked=1.0), None).best == (None, 0.2, 0.5)
    a, b, c = marks.Learnt((None, 0.2, 0.3), 4.0), marks.Learnt((0.1, 0.4, 0.5), marks.NEVER), marks.Learnt((), None)
    assert marks.together([a, b]) == marks.Learnt((None, pytest.approx(0.3), 0.4), 4.0)
    assert marks.together([c]) == c


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return racing.records(tmp_path_factory.mktemp("raced"), models=5, seeds=2)


def test_the_board_says_what_a_minute_teaches_and_of_what(raced: Path, tmp_path: Path) -> None:
    found = load(raced)
    (board,) = boards(found)
    text = markdown.render([board])
    assert "| Learnt per core-minute | ListOps | Image (jpeg) |" in text
    assert "Each run has 20 core-minutes of training" in text and "after 5, 10, 20 minutes" in text
    cell = board.race.cells["transformer", "listops"]
    own = found.racing.query("model == 'transformer' and row == 'listops'")
    times = sorted(p.minutes[p.accuracy >= 0.31].min() for _, p in own.groupby("run_id"))
    assert cell.to_floor == times[0] and f"; {times[0]:.3g} |" in text
    assert cell.best[-1] == pytest.approx(own.groupby("run_id").accuracy.max().median())
    assert race.text(board.race, "nobody", "listops") == "-"
    given = files.files([board], {})
    assert b"Learnt per core-minute: accuracy on valid" in given["leaderboard.html"]
    lines = [line for line in csv.render([board]).splitlines() if ",transformer," in line]
    assert lines and all(",20,core," in line for line in lines if ",model," in line and ",avg" not in line)
    (other,) = boards(load(racing.records(tmp_path, models=2, of="device")))
    assert "20 device-minutes of training" in markdown.render([other]) and "pace" not in race.beneath(other.race)[0]


def test_minutes_of_several_paces_are_told(raced: Path) -> None:
    (board,) = boards(load(raced))
    assert board.race.paces == 1 and len(race.beneath(board.race)) == 2
    told = race.beneath(marks.Race("core", 20, None, 2, {}))
    assert "counted at 2 paces" in told[-1] and "used" not in told[0]


@pytest.mark.parametrize("dark", [False, True])
def test_the_figure_has_every_model_of_an_exam(raced: Path, dark: bool) -> None:
    figure = dict(render.figures(load(raced), ("race",)))[f"race-race-example-cpu-float32{'-dark' * dark}"]
    readable(figure)
    page = style.DARK if dark else style.LIGHT
    assert to_hex(figure.get_facecolor()) == page.paper
    for axes, floor in zip(figure.axes, (31.0, 30.0), strict=True):
        assert axes.get_xlabel() == "core-minutes of training"
        curves = [line for line in axes.lines if len(line.get_xdata()) > 5]
        assert len(curves) == 5 and all(0 < line.get_xdata()[0] < line.get_xdata()[-1] < 20.5 for line in curves)
        assert any(set(line.get_ydata()) == {floor} for line in axes.lines)
        assert page.ink in {line.get_color() for line in curves}
    assert "nystromformer" not in words(figure) and "transformer 4" in words(figure)


def test_the_mean_over_seeds_is_at_the_same_minutes() -> None:
    one = [("r", "x", "m", 0, "ok", "core", 9.0, 9.0, 1.0, n, float(n), 0.1 * n) for n in (1, 2, 3, 4)]
    other = [("s", "x", "m", 1, "ok", "core", 9.0, 9.0, 1.0, n, n + 0.5, 0.1 * n) for n in (1, 2, 3)]
    x, y = mean_curve(marks.frame(one + other))
    np.testing.assert_allclose(x, [2, 3])
    np.testing.assert_allclose(y, [(0.2 + 0.15) / 2, (0.3 + 0.25) / 2])
