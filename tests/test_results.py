"""A results folder as one object: read once, handed on, from wherever it lies."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pytest

from lra.marks.exams import Exam, Exams
from lra.record import store
from lra.results import load
from tests.help import answered, synthetic, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic.records(tmp_path_factory.mktemp("results"), models=3, tasks=2)
    return synthetic.costs(folder, models=3, longest=1024)


def test_frames_are_made_once_and_hold_what_the_records_say(folder: Path) -> None:
    found = load(folder)
    records = [r for _, r in store.find(folder)]
    assert found.cells is found.cells and found.points is found.points
    assert found.runs.run_id.tolist() == [r.run_id for r in records]
    assert len(found.points) == 2 * sum(r.kind == "cost" for r in records)
    assert len(found.learning) == sum(len(r.curve) for r in records if r.kind == "model")
    assert set(found.floors.model) >= {"majority", "first_operator"} and len(found.published) > 100
    assert found.broken == found.misplaced == [] and found.remarks() == []


@pytest.mark.parametrize("name", [".", "./", "results/../", "results/.."])
def test_a_folder_by_any_of_its_names(folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "results").mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    found = load(name)
    assert found.misplaced == [] and found.runs.file.str.startswith("runs/").all() and len(found.runs)


def test_no_folder_is_an_empty_one(tmp_path: Path) -> None:
    found = load(tmp_path / "nowhere")
    assert found.runs.empty and found.cells.empty and found.points.empty and found.learning.empty


def test_what_charts_show_can_be_handed_on(folder: Path) -> None:
    found = load(folder)
    there = pickle.loads(pickle.dumps(found.charted()))
    pd.testing.assert_frame_equal(there.cells, found.cells)
    pd.testing.assert_frame_equal(there.points, found.points)
    assert there.exams.always() == found.exams.always() and there.runs.empty


def test_every_exam_of_ours_says_what_tables_show() -> None:
    names = {path.stem for path in (tiny.ROOT / "configs" / "task").glob("*.yaml")}
    exams = Exams()
    assert set(exams.shipped) == names
    assert [e.title for e in exams.always()] == ["ListOps", "Text", "Retrieval", "Image", "Path", "Path-X"]
    assert [e.of for e in exams.always() if 5 in e.averages] == ["listops", "text", "retrieval", "image", "pathfinder"]
    assert exams.of("retrieval_acl", "retrieval_acl-128", None) == exams.shipped["retrieval_acl"]
    assert exams.of("mine", "mine-8", None) == Exam("mine-8", "mine-8", known=False)


def test_what_the_record_says_of_its_exam_counts(tmp_path: Path) -> None:
    declared = {"of": "text", "title": "Reviews", "order": 2, "averages": [5, 6], "all_or_nothing": False}
    answered.run(tmp_path, "transformer", 0.6, "reviews-64", config={"exam": declared})
    [exam] = load(tmp_path).cells.exam
    assert exam.heading("reviews-64") == "Reviews (reviews, 64)" and exam.of == "text"
    (tmp_path / "task").mkdir()
    text = "# @package _global_\nexam: {of: maze, title: Maze, order: 9, averages: [7]}\n"
    (tmp_path / "task" / "maze.yaml").write_text(text)
    assert [e.title for e in Exams(tmp_path).always()][-1] == "Maze"
