"""The figures: what they show, that they can be read, that they are the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from lra import ledger
from lra.cost import growth
from lra.cost.points import COLUMNS
from lra.marks import means
from lra.marks.exams import averaged_row, ordered
from lra.plot import __main__ as door
from lra.plot import render, style
from lra.plot.bubble import bubble
from lra.plot.exams import accuracy, curves
from lra.plot.lengths import cost, throughput
from lra.record import store
from lra.results import Results, load
from tests.help import scored, synthetic, tiny

pytestmark = pytest.mark.xdist_group("plot")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen models, five tasks, a cost sweep, twelve abilities, capacity, reach, other lengths, failures."""
    folder = synthetic.costs(synthetic.records(tmp_path_factory.mktemp("whole")))
    return scored.far(scored.board(folder, scored.MANY))


@pytest.fixture(scope="module")
def found(whole: Path) -> Results:
    return load(whole)


@pytest.fixture(scope="module")
def drawn(found: Results) -> dict[str, Figure]:
    return {name.split("-")[0]: figure for name, figure in render.figures(found)}


KINDS = sorted({*render.KINDS} - {"race", "treated"})  # of which there are none here: test_race, test_treated


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_every_figure_is_drawn(drawn: dict[str, Figure]) -> None:
    assert set(drawn) == {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_inside_the_figure_and_covers_no_other_text(drawn: dict[str, Figure], kind: str) -> None:
    readable(drawn[kind])


def readable(figure: Figure) -> None:
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    shown = [t for t in visible(figure) if t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in shown]
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{text!r} is cut"
    for (a, one), (b, other) in itertools.combinations(boxes, 2):
        assert not one.shrunk(0.96, 0.8).overlaps(other.shrunk(0.96, 0.8)), f"{a!r} covers {b!r}"
    assert min(t.get_fontsize() for t in shown) >= 7


def visible(figure: Figure) -> Iterator[Text]:
    yield from figure.texts
    for axes in figure.axes:
        yield from axes.texts
        yield from (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label)
        yield from axes.get_legend().get_texts() if axes.get_legend() else ()
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            yield from (t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_visible())


# --- the bubble chart


def bubbles(**more: list) -> pd.DataFrame:
    base = {
        "model": ["transformer", "a", "b"],
        "accuracy": [0.5, 0.4, 0.45],
        "tasks": [3, 3, 2],
        "of": [3, 3, 3],
        "relative_speed": [1.0, 2.0, 4.0],
        "step_peak_bytes": [400e6, 100e6, 200e6],
    }
    return pd.DataFrame(base | more)


def test_area_is_memory_and_a_partial_mean_is_hollow() -> None:
    (axes,) = bubble(bubbles(), "t").axes
    dots = next(c for c in axes.collections if len(c.get_sizes()) == 3)
    by_memory = dots.get_sizes()  # largest first
    np.testing.assert_allclose(by_memory / by_memory[0], [1, 0.5, 0.25])
    np.testing.assert_allclose(dots.get_offsets()[:, 1], [50, 45, 40])
    assert [face[3] > 0 for face in dots.get_facecolors()] == [True, False, True]
    said = words(axes.figure)
    assert "b\n(2 of 3)" in said and "Partial: hollow is a mean over fewer tasks" in said and "of 128 MiB" in said


def test_a_mean_over_half_of_the_tasks_is_not_drawn() -> None:
    (axes,) = bubble(bubbles(tasks=[4, 4, 2], of=[4, 4, 4]), "t").axes
    assert [len(c.get_sizes()) for c in axes.collections if len(c.get_sizes()) > 1] == [2]
    assert "Not drawn, with half of the tasks or fewer: b." in words(axes.figure)


def test_of_many_the_front_is_named_and_the_others_have_numbers() -> None:
    n = 40
    names = ["transformer", *(f"m{i:02}" for i in range(1, n))]
    many = pd.DataFrame({
        "model": names, "accuracy": [0.5, *np.linspace(0.3, 0.6, n - 1)], "tasks": [1] * n, "of": [1] * n,
        "relative_speed": [1.0, *np.geomspace(0.2, 0.9, n - 2), 4.0], "step_peak_bytes": [1e8] * n,
    })  # fmt: skip
    (axes,) = bubble(many, "t").axes
    shown = {t.get_text() for t in axes.texts}
    assert {"transformer", "m39"} <= shown and "m38" not in shown and {str(i) for i in range(1, n - 1)} <= shown
    said = " ".join(words(axes.figure).split())
    assert "Numbers: 1 m01, 2 m02," in said and "38 m38." in said


def test_ticks_of_a_log_axis_lie_within_it_and_equal_discs_stand_by_name() -> None:
    (axes,) = bubble(bubbles(step_peak_bytes=[2.0**27] * 3), "t").axes
    low, high = axes.get_xlim()
    assert all(low < tick < high for tick in axes.get_xticks()) and 1 in axes.get_xticks()
    dots = next(c for c in axes.collections if len(c.get_sizes()) == 3)
    named = bubbles().sort_values("model")
    np.testing.assert_allclose(dots.get_offsets()[:, 1], 100 * named.accuracy)


def test_published_numbers_have_a_panel_of_their_own_in_grey() -> None:
    published = ledger.figure_3(ledger.load(tiny.ROOT / "results" / "published"))
    figure = bubble(bubbles(), "t", published)
    ours, theirs = figure.axes
    assert not {t.get_text() for t in ours.texts} & set(published.model)
    names = {t.get_text() for t in theirs.texts}
    assert len(names) == 9 and names < set(published.model)
    dots = next(c for c in theirs.collections if len(c.get_sizes()) == 9)
    assert {tuple(c[:3]) for c in dots.get_edgecolors()} == {to_rgb(style.GREY)}
    assert "not in the right panel: Sparse Transformer, Longformer." in words(figure)
    readable(figure)


def test_what_cannot_be_drawn_is_said() -> None:
    figure = bubble(bubbles(relative_speed=[1.0, np.nan, 2.0]), "t")
    assert "Not drawn, for want of an accuracy or a cost: a." in words(figure)
    assert "nothing measured yet" in words(bubble(bubbles(accuracy=[np.nan] * 3), "t"))


def test_speed_is_the_cost_sweeps_if_it_has_all_models(found: Results, tmp_path: Path) -> None:
    own = means.averages_of(found.cells)
    swept, speed = render.charted(own, found.points)
    assert speed == "text at 4K, batch 4" and (swept.model == own.model).all()
    known = growth.relative(found.points, lengths=(4096,)).set_index("model").relative_speed
    np.testing.assert_allclose(swept.set_index("model").relative_speed, known[list(swept.model)])
    few = load(synthetic.costs(tmp_path, models=3)).points
    kept, speed = render.charted(own, few)
    assert kept is own and speed == "geometric mean over tasks"


# --- the others


def test_cost_curves_show_exponents_failures_and_crossings(drawn: dict[str, Figure]) -> None:
    said = words(drawn["cost"])
    assert "bigbird 1.00 [" in said and "x: out of memory" in said and "disturbed machine" in said
    axes = drawn["cost"].axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[8192, 16384]]
    inside = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    assert crosses[0].get_ydata()[0] > max(max(line.get_ydata()) for line in inside), "a failure has no value"
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_accuracy_has_intervals_floors_and_failures(found: Results, drawn: dict[str, Figure]) -> None:
    axes = drawn["accuracy"].axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert {"floor: majority", "floor: depth_2", "transformer"} <= set(names) and len(names) == 17
    best = axes.lines[-1].get_xdata()
    assert set(best) == {24.0}, "depth_2 looks far, so the best local floor is the first operator's"
    assert "out of memory" in words(drawn["accuracy"])
    table = found.cells.set_index(["row", "model"])
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
    low, high = 100 * table.loc[("listops", "bigbird"), ["low", "high"]].astype(float)
    assert any(np.allclose(bar, (low, high)) for bar in bars)


def test_long_names_of_floors_and_exams_have_room(found: Results) -> None:
    table, long = found.cells.query("row == 'listops'"), "listops-16px-contour2-30000images"
    rules = pd.DataFrame([(long, "length_and_histogram", 0.25, True)], columns=["row", "model", "accuracy", "local"])
    figure = accuracy(table.assign(row=long), rules, "t")
    readable(figure)
    names = figure.axes[0].get_yticklabels()
    assert "floor: length_and_histogram" in {t.get_text() for t in names}
    assert min(t.get_window_extent().x0 for t in names) >= 0


def test_a_floor_far_off_is_an_arrow_with_its_number(found: Results) -> None:
    table = found.cells.query("row == 'listops'")
    rules = pd.DataFrame(
        [("listops", "far", 0.97, False), ("listops", "near", 0.25, True)],
        columns=["row", "model", "accuracy", "local"],
    )
    (axes,) = accuracy(table, rules, "t").axes
    assert axes.get_xlim()[1] < 70 and "97.0" in words(axes.figure) and "25.0" not in words(axes.figure)
    readable(axes.figure)


@pytest.mark.parametrize(("rules", "low", "high"), [((), 40, 50), ((0.54, 0.36), 36, 54), ((0.56, 0.34), 40, 50)])
def test_a_ranking_has_room_for_floors_that_are_not_far_off(
    rules: tuple[float, ...], low: float, high: float, found: Results
) -> None:
    """Models from 40 to 50 %: limits take in floors up to half of that span further off, no others."""
    table = found.cells.query("row == 'listops'").assign(low=0.40, high=0.50, accuracy=0.45)
    floors = pd.DataFrame(
        [("listops", f"rule{r}", r, False) for r in rules], columns=["row", "model", "accuracy", "local"]
    )
    (axes,) = accuracy(table, floors, "t").axes
    pad = 0.06 * (high - low)
    assert axes.get_xlim() == pytest.approx((low - pad, high + pad))


def test_missing_cells_are_counted(tmp_path: Path) -> None:
    synthetic.records(tmp_path, models=3, tasks=2, seeds=1)
    for path in (tmp_path / "runs" / "text" / "bigbird").iterdir():
        path.unlink()
    found = load(tmp_path)
    order = ordered(found.cells["row"], found.cells.exam)
    figure = accuracy(found.cells, found.floors, "t", order=order)
    assert "Partial: 1 of 6 cells not run." in words(figure)
    readable(figure)


def test_a_second_row_of_an_exam_moves_no_mean(tmp_path: Path) -> None:
    """One model has a stand-in for Retrieval besides the one that all have: it is not a sixth task."""
    synthetic.records(tmp_path, models=3, seeds=1, failures=False)
    before = means.averages_of(load(tmp_path).cells)
    more = {"task": "retrieval_synth", "row": "retrieval_synth-256", "budget": "quick", "accuracy_test": 0.97}
    synthetic.write(tmp_path, 900, **more, items_test=1000, model="bigbird", config_hash="0" * 16)
    pd.testing.assert_frame_equal(means.averages_of(load(tmp_path).cells), before)
    assert set(before.tasks) == {5}


@pytest.mark.parametrize(
    ("models", "row"),
    [
        ({"retrieval": 1, "retrieval_acl-256": 3}, "retrieval"),
        ({"retrieval": 0, "retrieval_acl-256": 3}, "retrieval_acl-256"),
        ({"retrieval_synth-256": 3, "retrieval_acl-256": 3}, "retrieval_acl-256"),
    ],
)
def test_the_row_that_averages_take(models: dict[str, int], row: str) -> None:
    assert averaged_row("retrieval", models) == row


def test_a_learning_curve_is_a_mean_over_the_same_seeds() -> None:
    rows = [("r", "m", seed, "ok", step, 0.1 * step + 0.02 * seed) for seed in (0, 1) for step in (1, 2, 3)][:-1]
    table = pd.DataFrame(rows, columns=["row", "model", "seed", "status", "step", "valid_accuracy"])
    (axes,) = curves(table, pd.DataFrame(columns=["row", "model", "accuracy", "local"]), "t").axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [11, 21])


def test_one_model_alone_can_be_drawn(tmp_path: Path) -> None:
    synthetic.costs(synthetic.records(tmp_path, models=1, tasks=1, seeds=1), models=1, longest=512)
    for _, figure in render.figures(load(tmp_path)):
        readable(figure)


def test_runs_with_overrides_are_left_out_and_counted(tmp_path: Path) -> None:
    synthetic.records(tmp_path, models=2, tasks=1, seeds=1)
    entry = next(r for _, r in store.find(tmp_path) if r.model == "bigbird")
    store.write(tmp_path, replace(entry, run_id="29990101T000000Z-aaaaaaaa", variant=["train.steps=3"]))
    figure = dict(render.figures(load(tmp_path)))["bubble-quick-example-cpu-float32"]
    assert "Not drawn: 1 cells of runs with overrides." in words(figure) and "train.steps=3" not in words(figure)


def test_empty_tables_are_no_error() -> None:
    none = pd.DataFrame(columns=COLUMNS)
    for figure in (
        cost(none, none, growth.fits(none), growth.crossing(none), "t"),
        throughput(none, "t"),
        bubble(bubbles().iloc[:0], "t"),
    ):
        assert "nothing measured yet" in words(figure)


# --- bytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.costs(
        synthetic.records(tmp_path_factory.mktemp("small"), models=4, tasks=2), models=4, longest=2048
    )


DIGESTS = """
import hashlib, json, sys
import matplotlib
matplotlib.rcParams.update({"font.size": 20, "lines.linewidth": 5, "svg.hashsalt": None, "figure.dpi": 50})
from lra import results
from lra.plot.render import render
found = results.load(sys.argv[1])
print(json.dumps({k: hashlib.sha256(v).hexdigest() for k, v in render(found).items()}))
assert matplotlib.rcParams["font.size"] == 20, "the user's settings are left alone"
"""


def test_the_same_records_give_the_same_bytes(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command here, and in another process with another hash seed and other settings of matplotlib."""
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS, str(small)],
        capture_output=True, text=True, check=True, cwd=tiny.ROOT, env=tiny.environment(PYTHONHASHSEED="1"),
    )  # fmt: skip
    there = json.loads(done.stdout)
    assert len(there) == 10

    (small / "figures").mkdir()
    (small / "figures" / "bubble-of-a-record-that-is-gone.png").write_bytes(b"")
    (small / "figures" / "mine.png").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["lra", f"results_dir={small}"])
    assert door.main() == 0 and "removed, no record gives it any more" in capsys.readouterr().out
    (small / "figures" / "mine.png").unlink()
    written = {f"figures/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in (small / "figures").iterdir()}
    assert written == there


def test_files_name_no_date_and_no_program(small: Path) -> None:
    _, figure = next(render.figures(load(small)))
    svg = style.image(figure, "svg").decode()
    assert "<dc:date>" not in svg and "<dc:creator>" not in svg and svg.count("<svg") == 1
    with Image.open(io.BytesIO(style.image(figure, "png"))) as png:
        assert set(png.info) <= {"dpi"} and png.mode == "P"
        assert png.size == tuple(round(side * style.DPI) for side in figure.get_size_inches())
        assert png.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
