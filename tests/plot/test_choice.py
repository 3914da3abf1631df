"""What may stand on the axes of the bubble chart: where each number comes from, floors, the front."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lra.errors import UserError
from lra.marks import abilities, means, skill
from lra.plot import __main__ as door
from lra.plot import render, style
from lra.plot.bubble import About, bubble
from lra.plot.choice import AREA, DEFAULT, Choice, X, Y, able, asked, seconds_to
from lra.results import Results, load
from tests.help import answered, racing, scored, synthetic
from tests.plot.test_plot import bubbles, readable, words

pytestmark = pytest.mark.xdist_group("choice")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A race, and the abilities of some of its models."""
    folder = racing.records(tmp_path_factory.mktemp("whole"), models=8, seeds=2)
    return scored.board(folder, scored.MANY)


@pytest.fixture(scope="module")
def found(whole: Path) -> Results:
    return load(whole)


def chosen(found: Results, choice: Choice, dark: bool = False) -> object:
    return dict(render.chosen(found, choice))[
        f"chosen-{choice.name.replace('_', '-').replace(' ', '-')}-race-example-cpu-float32{'-dark' * dark}"
    ]


@pytest.mark.parametrize("x", X)
def test_every_axis_can_be_read(x: str, found: Results) -> None:
    y, area = list(Y)[list(X).index(x)], list(AREA)[list(X).index(x) - 1]
    for dark in (False, True):
        figure = chosen(found, Choice(x, y, area), dark)
        readable(figure)
        assert to_hex(figure.get_facecolor()) == (style.DARK if dark else style.LIGHT).paper


def test_words_of_the_command(whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(["results_dir=a", "--config-dir", "b"]) == (None, ["results_dir=a", "--config-dir", "b"])
    given = asked(["x=core_seconds", "results_dir=a", "to=0.4"])
    assert given == (Choice("core_seconds", to=0.4), ["results_dir=a"]) and given[0].axes[0].better == -1
    for word, said in (
        ("x=speeed", "x: 'speeed' is not one of speed, core_seconds, flops. Did you mean speed?"),
        ("area=size", "area: 'size' is not one of memory, parameters, state."), ("to=0.4", "to: 0.4 is the accuracy"),
        ("to=40", "to: '40' is not an accuracy, a number in (0, 1]"), ("to=x", "to: 'x'"),
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            asked([word])
        assert str(caught.value).startswith(said)
    (whole / "figures").mkdir(exist_ok=True)
    (whole / "figures" / "bubble-old.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["lra", f"results_dir={whole}", "x=flops", "y=skill", "area=parameters"])
    assert door.main() == 0 and "removed" not in capsys.readouterr().out
    names = {p.name for p in (whole / "figures").iterdir()} - {"bubble-old.png"}
    assert names == {
        f"chosen-flops-skill-parameters-race-example-cpu-float32{shade}.{kind}"
        for shade in ("", "-dark") for kind in ("png", "svg")
    }  # fmt: skip
    assert not render.stale(whole, {f"figures/{name}": b"" for name in [*names, "bubble-old.png"]})


def test_core_seconds_are_those_until_the_floor_is_reached(found: Results) -> None:
    """By hand from the curves: of two seeds the earlier, then the geometric mean over two exams."""
    cells = found.cells[~found.cells.variant.astype(bool)]
    seconds = seconds_to(cells, found, None)
    by_hand = {}
    for model, own in found.racing.groupby("model"):
        each = []
        for (row, _), run in own.groupby(["row", "seed"]):
            floor = racing.ROWS[row][3]
            each.append(
                (row, 60 * run.minutes[run.accuracy >= floor].min() if (run.accuracy >= floor).any() else np.inf)
            )
        exams = [min(s for r, s in each if r == row) for row in racing.ROWS]
        if np.isfinite(exams).all():
            by_hand[model] = np.sqrt(np.prod(exams))
    assert 0 < len(by_hand) < cells.model.nunique() and seconds.to_dict() == pytest.approx(by_hand)
    higher = seconds_to(cells, found, 0.35)
    assert (higher[higher.index] >= seconds[higher.index]).all() and len(higher) < len(seconds)
    figure = chosen(found, Choice("core_seconds", "skill"))
    assert "Not drawn, for want of a number on an axis: " in words(figure)
    assert "core-seconds of training to the best local floor, log scale" in words(figure)


def test_abilities_learnt_and_reach(found: Results) -> None:
    cells = found.abilities
    table = able(cells)
    for model, own in cells.groupby("model"):
        learnt = sum(c.seeds > 0 and c.learnt == c.seeds and not c.failed for c in own.itertuples())
        assert table.learnt[model] == learnt
        reach = {c.capacity.at for c in abilities.each(own) if c.capacity is not None and c.task.startswith("needle")}
        assert table.reach[model] == max(reach) if reach else np.isnan(table.reach[model])
    assert abilities.whole(cells).sum() > 0


def test_reach_is_that_of_the_board(tmp_path: Path) -> None:
    """Of needles alone; what is beyond all that was asked stands at its end, what is below at its start."""
    found = load(scored.far(tmp_path)).abilities
    table = able(found)
    told = {c.model: c.capacity for c in abilities.each(found) if c.task.startswith("needle")}
    assert len(told) > 2 and all(table.reach[model] == c.at for model, c in told.items())
    assert {c.value is None for c in told.values()} == {True, False}
    other = table.reach.drop(list(told))
    assert other.isna().all()


def test_a_front_leads_along_the_best_and_leaves_partial_means_out() -> None:
    points = bubbles(model=["transformer", "a", "b"], accuracy=[0.5, 0.4, 0.45], tasks=[3, 3, 3])

    def front(**more: list) -> list[list[float]]:
        (axes,) = bubble(points.assign(**more), "t").axes
        line = next(line for line in axes.lines if line.get_label() == "front")
        return np.column_stack(line.get_data()).tolist()

    assert front() == [[1, 50], [4, 45]]
    assert front(tasks=[3, 3, 2]) == [[1, 50], [2, 40]]
    points = points.assign(core_seconds=[9.0, 2.0, 3.0])
    (axes,) = bubble(points, "t", choice=Choice("core_seconds")).axes
    line = next(line for line in axes.lines if line.get_label() == "front")
    assert list(line.get_xdata()) == [2, 3, 9] and line.get_drawstyle() == "steps-post"


@pytest.mark.parametrize(("floor", "drawn"), [(0.52, True), (0.9, False), (0.1, False)])
def test_a_floor_is_a_line_or_where_it_is_far_an_arrow(floor: float, drawn: bool) -> None:
    (axes,) = bubble(bubbles(), "t", about=About(floor=floor)).axes
    flat = [line for line in axes.lines if set(line.get_ydata()) == {100 * floor}]
    assert bool(flat) == drawn == (axes.get_ylim()[0] <= 100 * floor <= axes.get_ylim()[1])
    where = "dotted" if drawn else "far above ↑" if floor > 0.5 else "far below ↓"
    assert f"best local floors {100 * floor:.1f} %, {where}" in words(axes.figure)
    readable(axes.figure)


def test_stand_ins_are_called_so_and_have_no_published_numbers_beside_them(tmp_path: Path) -> None:
    folder = synthetic.records(tmp_path, models=4, seeds=1, failures=False)
    figure = dict(render.figures(load(folder), ("bubble",)))["bubble-quick-example-cpu-float32"]
    assert "over 5 tasks (stand-ins), %" in words(figure) and len(figure.axes) == 1
    floor = np.mean([max(local.values()) for *_, local, _ in synthetic.TASKS.values()])
    assert any(set(line.get_ydata()) == {100 * floor} for line in figure.axes[0].lines)
    standard = {row: row.split("-")[0].split("_")[0] for row in synthetic.TASKS}
    for path in folder.rglob("*.json"):
        text = path.read_text()
        for row, name in standard.items():
            text = text.replace(f'"row": "{row}"', f'"row": "{name}"').replace(
                f'"task": "{row.split("-")[0]}"', f'"task": "{name}"'
            )
        path.write_text(text)
    figure = dict(render.figures(load(folder), ("bubble",)))["bubble-quick-example-cpu-float32"]
    assert "stand-ins" not in words(figure) and "as published by Tay et al. 2021" in words(figure)


def test_skill_is_cut_with_a_mark() -> None:
    assert [skill.shown(v) for v in (0.314, -0.001, -1.0, -1.001, -21.73)] == ["0.31", "0.00", "-1.00", "<-1", "<-1"]
    rows = [("q", "c", "f", r, "m", a, s) for r, a, s in (("x", 0.5, 0.4), ("y", 0.3, -21.0))]
    rows += [("q", "c", "f", "x", "n", 0.4, 0.2)]
    shown = pd.DataFrame(rows, columns=["budget", "machine", "dtype", "row", "model", "accuracy", "skill"]).assign(
        low=0.2, high=0.6, relative_speed=1.0, step_peak_bytes=1.0, train_flops=1.0, parameters=1.0, state_floats=1.0,
        uses_2d=False,
    )  # fmt: skip
    found = means.averaged(shown).set_index("model")
    assert found.skill["m"] == pytest.approx((0.4 - 1) / 2) and found.cut.to_dict() == {"m": True, "n": False}
    figure = bubble(found.reset_index(), "t", choice=Choice("flops", "skill", "parameters"), about=About(floor=0.0))
    assert "m ↓" in words(figure) and "↓: on some task the skill is below -1" in words(figure)
    assert DEFAULT.axes[1].column == "accuracy"


def test_of_every_machine_that_has_costs_there_is_a_chart_unless_one_is_chosen(tmp_path: Path) -> None:
    for name, model in product(("A", "B"), ("transformer", "linear")):
        answered.run(tmp_path, model, 0.5, seed=ord(name), machine=answered.MACHINE | {"name": name})
    found = load(tmp_path)

    def charts(results: Results) -> set[str]:
        return {name for name, _ in render.figures(results, ("bubble",))}

    assert charts(found) == {f"bubble-quick-{machine}-float32" for machine in "ab"}
    figure = dict(render.figures(found, ("bubble",)))["bubble-quick-a-float32"]
    assert "Best local floors:" not in words(figure), "there is none"
    assert charts(found.select(machine="A")) == {"bubble-quick-a-float32"}


def test_intervals_are_inside_the_frame(tmp_path: Path) -> None:
    for model, accuracy in (("transformer", 0.9), ("linear", 0.5)):
        answered.run(tmp_path, model, accuracy, items=30)
    found = load(tmp_path)
    ((_, figure),) = render.figures(found, ("bubble",))
    (axes,) = [a for a in figure.axes if a.get_title(loc="left") == "measured here"]
    low, high = axes.get_ylim()
    assert low <= 100 * found.cells.low.min() and 100 * found.cells.high.max() <= high
