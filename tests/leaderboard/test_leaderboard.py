"""Cells, boards and formats, from records made up for the purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lra.leaderboard import __main__, files, markdown, notes, terminal
from lra.leaderboard.board import Board, Line, Mark
from lra.leaderboard.view import boards as shown_of
from lra.marks import stats
from lra.marks.exams import Exams
from lra.plot import render
from lra.record import sheet, store, unfinished
from lra.record.answers import Answers
from lra.results import load
from tests.help import answered, tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return answered.whole(folder)


@pytest.fixture(scope="module")
def boards(whole: Path) -> list[Board]:
    return shown_of(load(whole))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed, accuracy in enumerate((0.40, 0.50)):
        answered.run(tmp_path, "transformer", accuracy, seed=seed)
    fast = {"status": "ok", "step_peak_bytes": 2**24, "train": {"examples_per_second": 100.0}}
    answered.run(tmp_path, "linear", 0.30, cost=fast, parameters=170_000)
    answered.run(tmp_path, "linear", None, "text-512")
    answered.run(tmp_path, "transformer", 0.60, "text-512")
    answered.run(tmp_path, "transformer", 0.99, budget="paper")
    answered.run(tmp_path, "transformer", 0.10, variant=["train.steps=3"], config_hash="1" * 16)
    answered.floor(tmp_path, "majority", 0.17)
    answered.floor(tmp_path, "majority", 0.11, data={"fingerprint": "other"})
    return tmp_path


def by_cell(folder: Path) -> pd.DataFrame:
    return load(folder).cells.set_index(["budget", "row", "model"])


def line(shown: Board, name: str) -> Line:
    return next(each for each in shown.lines if each.name == name)


def test_seeds_are_averaged_and_costs_are_relative(results: Path) -> None:
    found = by_cell(results)
    cell = found.loc[("quick", "listops", "transformer")]
    assert cell.accuracy == pytest.approx(0.45) and cell.seeds == 2 and cell.relative_speed == 1
    assert cell.low < 0.40 and cell.high > 0.50, "the luck of training is not in the interval"
    linear = found.loc[("quick", "listops", "linear")]
    assert (linear.relative_speed, linear.relative_memory) == (2.0, 0.25)
    assert linear.parameters_ratio == pytest.approx(17 / 15)
    assert (linear.low, linear.high) == pytest.approx(stats.wilson(0.3, 400), abs=1e-6)
    assert linear.skill == pytest.approx((0.3 - 0.17) / 0.83) and linear.floor == "majority"


def test_a_failure_is_a_cell_with_its_reason(results: Path) -> None:
    lost = by_cell(results).loc[("quick", "text-512", "linear")]
    assert (lost.status, lost.seeds) == ("diverged", 0) and np.isnan(lost.accuracy)
    assert "step 12" in lost.reason


def test_a_failed_run_counts_only_without_a_final_one(tmp_path: Path) -> None:
    answered.run(tmp_path, "linear", None, status="failed", reason="KeyError: x")
    assert by_cell(tmp_path).loc[("quick", "listops", "linear")].status == "failed"
    answered.run(tmp_path, "linear", 0.3, seed=1)
    cell = by_cell(tmp_path).loc[("quick", "listops", "linear")]
    assert (cell.status, cell.seeds, cell.failed) == ("ok", 1, 0)


def test_one_lost_seed_is_said(tmp_path: Path) -> None:
    answered.run(tmp_path, "linear", 0.3)
    answered.run(tmp_path, "linear", None, seed=1)
    [shown] = shown_of(load(tmp_path))
    assert any("linear on ListOps: 1 of 2 seeds failed" in note for note in notes.beneath(shown))


def test_the_newest_of_two_equals_counts(results: Path) -> None:
    answered.run(results, "linear", 0.35, run_id="29990101T000000Z-aaaaaaaa")
    assert by_cell(results).loc[("quick", "listops", "linear")].accuracy == 0.35


def test_without_stored_answers_the_wider_interval_and_no_rank(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.4, 0.5)):
        answered.run(tmp_path, "transformer", accuracy, seed=seed, stored=False)
    answered.run(tmp_path, "linear", 0.3)
    cell = by_cell(tmp_path).loc[("quick", "listops", "transformer")]
    assert cell.low == 0 and cell.high == 1
    [shown] = shown_of(load(tmp_path))
    assert line(shown, "transformer").mark("listops").rank is None
    assert any("Not ranked on ListOps" in n and "transformer" in n for n in notes.beneath(shown))


def test_old_records_make_a_board(tmp_path: Path) -> None:
    for path in (tiny.ROOT / "tests" / "records").glob("*.json"):
        old = sheet.read(path)
        target = store.folder(tmp_path, old.task, old.model) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    shown = shown_of(load(tmp_path))
    assert shown and all(terminal.render(shown) and markdown.render(shown) for _ in "x")


def test_answers_are_compared_with_the_labels(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    stored = store.folder(tmp_path, made.task, made.model) / made.predictions["file"]
    assert Answers().right([str(stored)]).shape == (1, 400) and Answers().right([str(stored)]).mean() == 0.3
    assert Answers().right([str(stored), None]) is None and Answers().right([]) is None
    other = answered.run(tmp_path, "linear", 0.3, row="text")
    assert (
        Answers().right([str(stored), str(store.folder(tmp_path, other.task, other.model) / other.predictions["file"])])
        is None
    )


def test_groups_are_never_mixed(results: Path) -> None:
    shown = shown_of(load(results))
    assert [b.budget for b in shown] == ["paper", "quick"]
    assert all("0.99" not in str(m.accuracy) for each in shown[1].lines for m in each.marks.values())
    answered.run(results, "transformer", 0.5, dtype="bfloat16")
    answered.run(results, "transformer", 0.5, machine={"name": "Example GPU", "device": "cuda"})
    assert sorted(b.title for b in shown_of(load(results)))[1:] == ["budget quick, bfloat16", "budget quick, float32"]


def test_columns_are_the_papers_and_stand_ins_are_named(boards: list[Board]) -> None:
    [shown] = boards
    assert [c.title for c in shown.columns] == [
        "ListOps (128)",
        "Text (512, test1000)",
        "Retrieval (acl, 512)",
        "Image (jpeg, test500)",
        "Path (3000images)",
        "Path-X",
        "Avg5 (stand-ins)",
        "Avg6 (stand-ins)",
    ]
    rows = ("image", "image_jpeg", "pathx256", "mine", "mine-12")
    headings = [Exams().of(row.split("-")[0], row, None).heading(row) for row in rows]
    assert headings == ["Image", "Image (jpeg)", "pathx256", "mine", "mine-12"]
    text = " ".join(notes.beneath(shown))
    assert "Image (jpeg, test500) is image_jpeg-test500" in text and "not the papers' average" in text


def test_standard_rows_have_the_standard_heading_and_average(tmp_path: Path) -> None:
    for row in ("listops", "text", "retrieval", "image", "pathfinder"):
        answered.run(tmp_path, "transformer", 0.5, row)
        answered.run(tmp_path, "linear", 0.4, row)
    for row in ("retrieval_acl", "image_jpeg"):  # a stand-in beside the standard row is not averaged
        answered.run(tmp_path, "transformer", 0.9, row)
    [shown] = shown_of(load(tmp_path))
    assert [c.title for c in shown.columns if c.over] == ["Avg5", "Avg6"]
    assert line(shown, "transformer").mark("avg5").accuracy == pytest.approx(0.5)
    assert line(shown, "transformer").mark("avg5").rank == (1, 1)
    assert line(shown, "linear").mark("avg5").rank == (2, 2)


def test_an_average_over_missing_cells_is_not_drawn(boards: list[Board]) -> None:
    [shown] = boards
    for name in ("linear", "synthesizer"):
        assert line(shown, name).mark("avg5") == Mark()
    assert all(each.mark("avg6") == Mark() for each in shown.lines)
    names = [each.name for each in shown.of("model")]
    assert set(names[-2:]) == {"linear", "synthesizer"}, "a model without an average stands above one with"


def test_ranks_come_from_the_stored_answers(tmp_path: Path) -> None:
    for name, accuracy in (("a", 0.7), ("b", 0.69), ("c", 0.5)):
        answered.run(tmp_path, name, accuracy)
    [shown] = shown_of(load(tmp_path))
    assert [line(shown, n).mark("listops").rank for n in "abc"] == [(1, 2), (1, 2), (3, 3)]
    assert shown.columns[0].resolution == pytest.approx(0.1, abs=0.05)


def test_models_on_other_data_are_not_ranked(tmp_path: Path) -> None:
    answered.run(tmp_path, "a", 0.7)
    answered.run(tmp_path, "b", 0.5)
    answered.run(tmp_path, "c", 0.5, data={"fingerprint": "changed"})
    [shown] = shown_of(load(tmp_path))
    assert [line(shown, n).mark("listops").rank for n in "abc"] == [(1, 1), (2, 2), None]


def test_seeds_above_chance(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.5, 0.53, 0.95)):
        answered.run(tmp_path, "a", accuracy, "pathfinder", seed)
    [shown] = shown_of(load(tmp_path))
    assert line(shown, "a").mark("pathfinder").above_chance == (1, 3)
    assert "1/3" in terminal.render([shown], 80) and "above chance 1 of 3" in markdown.render([shown])


def test_parameters_out_of_line_are_marked(results: Path) -> None:
    quick = shown_of(load(results))[1]
    assert notes.name(line(quick, "linear")) == "linear †"
    assert "linear 1.133x" in " ".join(notes.beneath(quick))


def test_floors_are_rows_and_only_on_the_same_data(results: Path) -> None:
    text = markdown.render(shown_of(load(results)))
    assert "| floor: majority | 17.0 |" in text and "11.0" not in text


def test_overrides_are_rows_of_their_own_without_a_rank(results: Path) -> None:
    quick = shown_of(load(results))[1]
    odd = line(quick, "transformer train.steps=3")
    assert odd.kind == "variant" and odd.mark("listops").rank is None
    assert line(quick, "transformer").mark("listops").rank == (1, 2)


def test_command_writes_everything_repeats_to_the_byte_and_needs_no_torch(tmp_path: Path) -> None:
    for name, accuracy in (("transformer", 0.4), ("linear", 0.3)):
        answered.run(tmp_path, name, accuracy)
    code = (
        "import sys; from lra.leaderboard.__main__ import main; main();"
        "print('heavy:', sorted({'torch', 'sklearn', 'datasets', 'hydra'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, f"results_dir={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, env=tiny.environment(PYTHONHASHSEED="7"))
    assert done.returncode == 0, done.stderr
    assert "budget quick, float32" in done.stdout and "heavy: []" in done.stdout
    written = {name: (tmp_path / name).read_bytes() for name in files.NAMES}
    assert b"<svg" in written["leaderboard.html"]
    assert not any(str(tmp_path).encode() in content for content in written.values())
    assert written == files.files(shown_of(load(tmp_path)), render.charts(load(tmp_path))), "rebuilding changed a byte"


@pytest.mark.parametrize("words", [["resultsdir=x"], ["--chek"], ["results_dir=no-such-folder"]])
def test_bad_words_are_one_line(words: list[str]) -> None:
    done = tiny.lra(*words, module="lra.leaderboard")
    assert done.returncode == 2 and done.stderr.startswith("lra: ") and len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "b" / "c.json").write_text("{")
    done = tiny.lra(f"results_dir={tmp_path}", module="lra.leaderboard")
    assert done.returncode == 2 and "c.json" in done.stderr and len(done.stderr.splitlines()) == 1


def test_floors_of_an_empty_folder(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found.runs.empty and found.cells.empty and found.floors.empty and found.points.empty
    assert found.learning.empty and found.broken == [] and shown_of(found) == []


def test_damaged_answers_cost_the_ranks_and_are_named(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    stored = store.folder(tmp_path, made.task, made.model) / made.predictions["file"]
    stored.write_bytes(stored.read_bytes()[:-40])
    found = load(tmp_path)
    assert found.cells.accuracy.tolist() == [0.3]
    [(file, said)] = found.broken
    assert file.endswith(made.predictions["file"]) and "damaged" in said


def test_a_cell_of_an_edited_record_is_marked(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    answered.run(tmp_path, "transformer", 0.4)
    path = store.folder(tmp_path, made.task, made.model) / f"{made.run_id}.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    [shown] = shown_of(load(tmp_path))
    [told] = [note for note in notes.beneath(shown) if "edited" in note]
    assert told.startswith("linear on ListOps: edited after it was written") and made.run_id in told


def test_a_new_exam_brings_its_column_in_its_record(tmp_path: Path) -> None:
    config = {"exam": {"of": "maze", "title": "Maze", "order": 1.5, "averages": [5, 7], "all_or_nothing": True}}
    answered.run(tmp_path, "linear", 0.9, "maze", config=config)
    answered.run(tmp_path, "linear", 0.8, "maze-64", config=config)
    [shown] = shown_of(load(tmp_path))
    titles = {c.key: (c.title, c.standard) for c in shown.columns}
    assert titles["maze"] == ("Maze", True) and titles["maze-64"] == ("Maze (64)", False)
    assert line(shown, "linear").mark("maze").above_chance == (1, 1)
    assert "maze" not in next(c for c in shown.columns if c.key == "avg5").over, "all others would lose their average"
    assert next(c for c in shown.columns if c.key == "avg7").over == ("maze",)


def test_a_run_without_a_record_is_shown_and_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answered.run(tmp_path, "linear", 0.5)
    place = tmp_path / "unfinished" / "listops-local-s3-0"
    place.mkdir(parents=True)
    said = {"task": "listops", "model": "local\x1b[2J", "seed": 3, "budget": "quick", "row": "listops", "steps": 300}
    unfinished.write(place / "state-1-20.json", said | {"facts": {"steps_done": 20, "curve": []}}, b"")
    for harm in ("[]", "{", '{"facts": 1}'):
        (place.parent / f"x{len(harm)}").mkdir()
        (place.parent / f"x{len(harm)}" / "state-1-1.json").write_text(harm)
    monkeypatch.setattr(sys, "argv", ["lra.leaderboard", f"results_dir={tmp_path}"])
    assert __main__.main() == 0
    out = capsys.readouterr().out
    assert out.count("unfinished: ") == 1 and "s3, budget quick: step 20 of 300; the same command" in out
    assert "\x1b" not in out and "unfinished" not in (tmp_path / "leaderboard.md").read_text()


def test_how_many_seeds_stand_behind_a_column_is_said(tmp_path: Path) -> None:
    for row in ("listops", "text"):
        answered.run(tmp_path, "linear", 0.5, row)
    assert "One seed each." in " ".join(notes.beneath(shown_of(load(tmp_path))[0]))
    answered.run(tmp_path, "linear", 0.6, seed=1)
    answered.run(tmp_path, "local", 0.6)
    assert "Seeds: 1 to 2 (ListOps), 1 (Text)." in " ".join(notes.beneath(shown_of(load(tmp_path))[0]))
