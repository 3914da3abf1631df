"""What a cell says of its runs, and what two cells must share before they are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lra import results
from lra.errors import UserError
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
