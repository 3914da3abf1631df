"""Of a model with experts its record tells how many parameters a token meets, and tables show it."""

from __future__ import annotations

from csv import DictReader
from pathlib import Path

import pytest

from lra.leaderboard import csv, page
from lra.leaderboard.view import boards
from lra.results import load
from lra.runner.run import recorded
from lra.settings import compose
from tests.help import tiny


@pytest.mark.parametrize(("experts", "idle"), [pytest.param(1, 0, marks=pytest.mark.slow), (4, 3)])
def test_active_parameters_are_recorded_and_shown(tmp_path: Path, experts: int, idle: int) -> None:
    words = ["model=switch_transformer", f"model.stack.experts={experts}", "measure.enabled=false", "size.depth=2"]
    record = recorded(compose.config(tiny.words(tmp_path, *words)))
    own = 2 * 16 * 16 + 16 + 16  # of an expert, D = mlp_dim = 16
    assert record.status == "ok" and record.parameters - record.active_parameters == 2 * idle * own
    shown = boards(load(tmp_path / "results"))
    (row,) = (r for r in DictReader(csv.render(shown).splitlines()) if r["kind"] == "variant")
    assert row["active_parameters"] == str(record.active_parameters)
    text = f"{record.parameters:,} parameters, {record.active_parameters:,} of them active"
    assert (text in page.render(shown, {})) == (idle > 0)
