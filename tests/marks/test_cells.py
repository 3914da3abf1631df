"""What a cell says of its runs, and what two cells must share before they are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import f_oneway

from lra import results
from lra.errors import UserError
from lra.leaderboard import notes
from lra.leaderboard.view import boards
from lra.marks.cells import apart
from lra.marks.compare import comparisons
from lra.marks.means import standard
from tests.help import answered


def speed(examples: float | None, peak: int) -> dict:
    return {"status": "ok", "step_peak_bytes": peak, "train": {"examples_per_second": examples}}


def cell(folder: Path, model: str) -> object:
    cells = results.load(folder).cells
    (found,) = cells[cells.model == model].itertuples()
    return found


def test_a_cell_has_the_median_speed_and_the_largest_memory_of_its_seeds(tmp_path: Path) -> None:
    for seed, (rate, peak) in enumerate([(10.0, 5000), (90.0, 9000), (20.0, 7000)]):
        answered.run(tmp_path, "linear", 0.5 + seed / 10, seed=seed, cost=speed(rate, peak))
    answered.run(tmp_path, "transformer", 0.6, cost=speed(40.0, 18000))
    found = cell(tmp_path, "linear")
    assert (found.examples_per_second, found.step_peak_bytes, found.seeds) == (20.0, 9000.0, 3)
    assert found.accuracy == pytest.approx(0.6) and found.low < 0.6 < found.high
    assert (found.relative_speed, found.relative_memory, found.parameters_ratio) == (0.5, 0.5, 1.0)


def test_a_cell_that_nothing_was_measured_of_has_no_speed(tmp_path: Path) -> None:
    answered.run(tmp_path, "linear", 0.5, cost={})
    found = cell(tmp_path, "linear")
    assert np.isnan(found.examples_per_second) and np.isnan(found.step_peak_bytes) and found.accuracy == 0.5


def test_a_run_with_an_override_is_no_standard_run(tmp_path: Path) -> None:
    answered.run(tmp_path, "linear", 0.5)
    answered.run(tmp_path, "linear", 0.7, variant=["train.steps=3"], config_hash="1" * 16)
    cells = results.load(tmp_path).cells
    assert len(cells) == 2 and list(standard(cells).accuracy) == [0.5]
    nothing = results.load(tmp_path / "nothing").cells
    assert list(standard(nothing).columns) == list(nothing.columns), "of no cells none, not a table without columns"


def test_where_its_data_lay_is_no_override(tmp_path: Path) -> None:
    """Records from before it was none say it among their words."""
    answered.run(tmp_path, "linear", 0.5, variant=["task.path=mine"])
    answered.run(tmp_path, "linear", 0.7, seed=1, variant=["task.path=mine", "train.steps=3"], config_hash="1" * 16)
    cells = results.load(tmp_path).cells
    assert list(cells.model) == ["linear", "linear train.steps=3"] and list(cells.variant) == [False, True]


def test_a_run_that_did_not_end_counts_where_none_of_its_cell_did(tmp_path: Path) -> None:
    """An interruption after a result takes nothing from it; one alone is shown as what it is."""
    answered.run(tmp_path, "linear", 0.5)
    interrupted = {"accuracy": None, "status": "interrupted", "reason": "signal 2", "cost": {}}
    answered.run(tmp_path, "linear", **interrupted, seed=1)
    answered.run(tmp_path, "local", **interrupted)
    assert (cell(tmp_path, "linear").status, cell(tmp_path, "linear").failed) == ("ok", 0)
    assert (cell(tmp_path, "local").status, cell(tmp_path, "local").failed) == ("interrupted", 1)


@pytest.mark.parametrize("apart", ["data", "row", "items", "stored"])
def test_only_answers_on_the_same_test_items_are_compared(apart: str, tmp_path: Path) -> None:
    """Other data under the same name, another row of the same task, fewer items, no answers kept: each by itself."""
    answered.run(tmp_path, "linear", 0.5)
    other = {
        "data": {"data": {"fingerprint": "other data"}},
        "row": {"row": "listops-128", "data": {"fingerprint": "data of listops"}},
        "items": {"items": 300},
        "stored": {"stored": False},
    }
    answered.run(tmp_path, "local", 0.7, **other[apart])
    answered.run(tmp_path, "sparse", 0.7)
    found = results.load(tmp_path)
    assert len(comparisons(found.cells, found.answers, "linear", "sparse", "listops", "quick")) == 1
    with pytest.raises(UserError, match="linear and local have no stored answers on the same test items"):
        comparisons(found.cells, found.answers, "linear", "local", "listops", "quick")


def test_accuracies_are_over_all_machines_and_costs_of_one(tmp_path: Path) -> None:
    """Seeds that two machines share count once; what a step costs there is told for each of them alone."""
    a, b = {"machine": {"name": "CPU A", "device": "cpu"}}, {"machine": {"name": "CPU B", "device": "cpu"}}
    for seed, (where, accuracy, rate) in enumerate([(a, 0.4, 10.0), (a, 0.5, 10.0), (b, 0.6, 99.0)]):
        answered.run(tmp_path, "linear", accuracy, seed=seed, cost=speed(rate, 5000), **where)
    answered.run(tmp_path, "transformer", 0.5, cost=speed(20.0, 5000), **a)
    answered.run(tmp_path, "linear", 0.7, seed=0, cost=speed(99.0, 5000), **b)
    found = results.load(tmp_path)
    [linear] = found.cells[found.cells.model == "linear"].itertuples()
    assert (linear.machine, linear.machines, linear.seeds, linear.timed) == ("", ("CPU B", "CPU A"), 3, "CPU A")
    assert linear.accuracy == pytest.approx((0.7 + 0.5 + 0.6) / 3)
    assert (linear.relative_speed, linear.examples_per_second, len(linear.timed_ids)) == (0.5, 10.0, 2)
    there = found.select(machine="CPU B").cells
    assert set(there.timed) == {"CPU B"} and there.relative_speed.isna().all() and len(there) == 1
    assert list(there.examples_per_second) == [99.0] and there.accuracy.iloc[0] == linear.accuracy
    [board] = boards(found)
    assert board.title == "budget quick, float32" and (board.tested, board.apart) == (1, frozenset())
    assert "CPU B, 1 cells" in (text := " ".join(notes.beneath(board))) and "do not differ beyond chance" in text


def test_machines_that_differ_beyond_chance_are_named(tmp_path: Path) -> None:
    for seed in range(4):
        for name, accuracy in (("CPU A", 0.3), ("CPU B", 0.7)):
            where = {"name": name, "device": "cpu"}
            answered.run(tmp_path, "linear", accuracy + seed / 100, seed=seed + 4 * (name == "CPU B"), machine=where)
    [board] = boards(results.load(tmp_path))
    assert board.apart == {("linear", "listops")}
    assert "differ beyond chance on 1: linear on ListOps" in " ".join(notes.beneath(board))


def test_runs_of_minutes_stay_with_their_machine(tmp_path: Path) -> None:
    for name in ("CPU A", "CPU B"):
        answered.run(tmp_path, "linear", 0.5, machine={"name": name}, minutes={"of": "core", "asked": 4.0})
    cells = results.load(tmp_path).cells
    assert sorted(cells.machine) == ["CPU A", "CPU B"] and list(cells.seeds) == [1, 1]


def test_other_settings_and_data_do_not_join(tmp_path: Path) -> None:
    """Of several configurations the newest counts, wherever it was run."""
    answered.run(tmp_path, "linear", 0.5, machine={"name": "CPU A"})
    answered.run(tmp_path, "linear", 0.6, seed=1, machine={"name": "CPU B"}, config={"revision": {"protocol": 2}})
    [found] = results.load(tmp_path).cells.itertuples()
    assert (found.accuracy, found.machines) == (0.6, ("CPU B",)) and np.isnan(found.apart)


def test_the_test_between_machines_is_fishers() -> None:
    draw = np.random.default_rng(0)
    groups = [list(draw.normal(0.5, 0.02, n)) for n in (3, 2, 4)]
    assert apart(groups) == pytest.approx(f_oneway(*groups).pvalue)
    assert apart([[0.5], [0.6]]) is None and apart([[0.5, 0.5], [0.6]]) is None and apart([[0.5, 0.5], [0.5]]) == 1.0
    ps = [apart([list(draw.normal(0.5, 0.02, 3)), list(draw.normal(0.5, 0.02, 2))]) for _ in range(2000)]
    assert 0.035 < np.mean(np.array(ps) < 0.05) < 0.065
