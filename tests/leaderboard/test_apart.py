"""What stands in a section of its own: models that know the rows and columns of images, and pretrained ones."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from lra.leaderboard import csv as as_csv
from lra.leaderboard import latex, markdown, notes, page, pretrained, terminal
from lra.leaderboard.pick import picked
from lra.leaderboard.view import Board, boards
from lra.marks import means
from lra.plot.bubble import bubble
from lra.plot.render import figures
from lra.results import Results, load
from tests.help import answered

KNOWS = {"about": {"uses_2d": True}}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    for row, scores in {"image": (0.4, 0.5, 0.9), "pathfinder": (0.6, 0.7, 0.95)}.items():
        for model, accuracy in zip(("transformer", "linear", "vit"), scores, strict=True):
            config = KNOWS if model == "vit" else {}
            answered.run(tmp_path, model, accuracy, row, config=config)
    return load(tmp_path)


def board(results: Results) -> Board:
    (found,) = boards(results)
    return found


def test_what_knows_rows_and_columns_is_in_no_rank(results: Results) -> None:
    found = board(results)
    assert [(line.name, line.kind) for line in found.lines] == [
        ("linear", "model"), ("transformer", "model"), ("vit", "pixels"),
    ]  # fmt: skip
    marks = {line.name: line.mark("image") for line in found.lines}
    assert marks["vit"].accuracy == 0.9 and marks["vit"].rank is None and marks["linear"].rank is not None
    (column,) = (c for c in found.columns if c.key == "image")
    assert column.unranked == ()


def test_every_format_sets_it_apart(results: Results) -> None:
    found = [board(results)]
    says = "2-D: knows the rows and columns of an image"
    assert "| 2-D: vit |" in markdown.render(found) and says in markdown.render(found)
    text = terminal.render(found, 100).splitlines()
    at = text.index("2-D, of images alone")
    assert text[at + 1].startswith("vit ") and any(line.startswith("2-D: knows") for line in text)
    lines = latex.render(found).splitlines()
    assert lines[next(i for i, line in enumerate(lines) if line.startswith("2-D: vit")) - 1] == r"\midrule"
    assert r"\textbf" not in next(line for line in lines if line.startswith("2-D: vit"))
    assert '<tbody class="pixels">' in page.render(found, {})
    rows = [r for r in csv.DictReader(io.StringIO(as_csv.render(found))) if r["model"] == "vit"]
    assert {r["kind"] for r in rows} == {"pixels"} and all(not r["rank_best"] for r in rows)


def test_its_bubble_is_hollow_and_beats_nobody(results: Results) -> None:
    points = means.averages_of(results.cells)
    (axes,) = bubble(points, "t").axes
    dots = next(c for c in axes.collections if len(c.get_sizes()) == 3)
    hollow = [face[3] == 0 for face in dots.get_facecolors()]
    assert sum(hollow) == 1
    words = " ".join(t.get_text() for t in [*axes.figure.texts, *axes.texts])
    assert "vit\n(2-D)" in words and "2-D: hollow knows the rows and columns of images: vit." in words
    (front,) = (line for line in axes.lines if line.get_label() == "front")
    assert max(front.get_ydata()) == pytest.approx(100 * points.accuracy[points.model == "linear"].item())
    assert {p["model"] for p in picked(results.cells, results, "float32")} == {"transformer", "linear"}


AHEAD = {"objective": "masked", "use": "finetune", "steps": 9, "core_seconds": 90.0}


@pytest.fixture
def ahead(tmp_path: Path) -> Results:
    for row, scores in {"image": (0.4, 0.5, 0.6), "pathfinder": (0.6, 0.5, 0.7)}.items():
        for model, accuracy in zip(("transformer", "linear", "transformer"), scores, strict=True):
            more = {"variant": ["treatment=pretrain"], "pretraining": AHEAD} if accuracy in (0.6, 0.7) else {}
            more = more if (row, model, accuracy) != ("pathfinder", "transformer", 0.6) else {}
            config = {"treatment": {"steps": 9}} if more else {}
            answered.run(tmp_path, model, accuracy, row, config=config, training={"core_seconds": 60.0}, **more)
    return load(tmp_path)


def test_pretrained_stands_beside_from_scratch_and_in_no_column_with_it(ahead: Results) -> None:
    found = board(ahead)
    assert {line.name for line in found.lines} == {"transformer", "linear"}
    expected = ("transformer treatment=pretrain", "Image", "masked, finetune")
    (first, _) = pretrained.rows(found)
    assert first[:3] == expected and first[3].startswith("40.0 ±") and first[5].startswith("60.0 ±")
    assert (first[4], *first[6:]) == ("1", "1.5", "1")
    for text in (markdown.render([found]), page.render([found], {}), latex.render([found])):
        assert "from scratch" in text and "transformer treatment=pretrain" in text
    assert "pretrained" in terminal.render([found], 200) and notes.PRETRAINED in markdown.render([found])
    rows = list(csv.DictReader(io.StringIO(as_csv.render([found]))))
    spent = [(r["kind"], r["core_seconds"]) for r in rows if "pretrain" in r["model"] and r["row"] == "image"]
    assert spent == [("pretrained", "60"), ("pretraining", "90")]


def test_their_bubbles_are_joined(ahead: Results) -> None:
    (figure,) = (f for name, f in figures(ahead, ("bubble",)))
    (axes,) = figure.axes[:1]
    (line,) = (x for x in axes.lines if x.get_label() == "joined")
    assert list(line.get_ydata()) == pytest.approx([50.0, 65.0]) and len(set(line.get_xdata())) == 1
    words = " ".join(t.get_text() for t in [*figure.texts, *axes.texts])
    assert "transformer\npretrained" in words and "Joined to its model from scratch" in words
    (front,) = (x for x in axes.lines if x.get_label() == "front")
    assert max(front.get_ydata()) == pytest.approx(50.0), "it beats nobody"


def test_a_choice_ranks_neither_of_them_and_keeps_what_stands_beside(ahead: Results) -> None:
    """From scratch is compared as on the whole board, whether or not a choice shows it."""
    whole = board(ahead)
    for choice in ({"variant": "*"}, {"variant": "treatment*", "model": "transformer"}, {"columns": "image"}):
        part = board(ahead.select(**choice))
        assert part.compared == 2 and part.tested == 0 and {line.kind for line in part.lines} == {"model"}
        assert all(pair[1] is not None for pair in part.pretrained)
        shown = {column.title for column in part.columns}
        assert pretrained.rows(part) == [row for row in pretrained.rows(whole) if row[1] in shown]
    assert board(ahead.select(model="linear")).pretrained == board(ahead.select(variant="none")).pretrained == ()
    (figure,) = (f for name, f in figures(ahead.select(variant="*"), ("bubble",)))
    assert [x for x in figure.axes[0].lines if x.get_label() == "joined"]
    (bars,) = (f for name, f in figures(ahead.select(variant="*"), ("accuracy",)))
    assert "pretrain" not in " ".join(label.get_text() for axes in bars.axes for label in axes.get_yticklabels())


def test_pretrained_of_an_override_stands_beside_that_override(tmp_path: Path) -> None:
    for row in ("image", "pathfinder"):
        answered.run(tmp_path, "transformer", 0.4, row)
        for name, accuracy in (("linear", 0.5), ("linear size.dim=32", 0.45)):
            model, *words = name.split(" ")
            answered.run(tmp_path, model, accuracy, row, variant=words, config={"size": {"dim": 32}} if words else {})
    more = {"variant": ["size.dim=32", "treatment=pretrain"], "pretraining": AHEAD}
    answered.run(tmp_path, "linear", 0.6, "image", config={"treatment": {"steps": 9}}, **more)
    found = load(tmp_path)
    for part in (found, found.select(variant="treatment*"), found.select(variant="*")):
        [[name, _, _, before, *_]] = pretrained.rows(board(part))
        assert (name, before[:4]) == ("linear dim=32 treatment=pretrain", "45.0")
    (figure,) = (f for name, f in figures(found.select(variant="*"), ("bubble",)))
    (line,) = (x for x in figure.axes[0].lines if x.get_label() == "joined")
    assert list(line.get_ydata()) == pytest.approx([45.0, 60.0])


def test_accuracies_are_of_all_machines_and_minutes_of_one(ahead: Results) -> None:
    other = {"device": "cpu", "name": "Another CPU", "cores": 2, "threads": 1}
    spent = {"training": {"core_seconds": 600.0}, "pretraining": AHEAD | {"core_seconds": 900.0}, "machine": other}
    words = {"variant": ["treatment=pretrain"], "config": {"treatment": {"steps": 9}}}
    answered.run(ahead.folder, "transformer", 0.7, "image", seed=1, **words, **spent)
    answered.run(ahead.folder, "vit", 0.9, "image", config=KNOWS, machine=other)
    found = load(ahead.folder)
    (first, _) = pretrained.rows(board(found))
    assert first[5].startswith("65.0 ±") and first[6:] == ("1.5", "1")
    (chosen,) = pretrained.rows(board(found.select(machine="Another*")))
    assert chosen[5] == first[5] and chosen[6:] == ("15", "10")
    assert [line.title for line in board(found).of("pixels")] == ["vit"]
    assert [line.name for line in board(found.select(model="vit,trans*")).lines] == ["transformer", "vit"]
