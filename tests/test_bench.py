"""One layer against the package from PyPI, at the bars of the project. Minutes: run with -m slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import rates
from tests.bench.layers import compare, missing, table
from tests.bench.peers import CASES

RUNS = [(name, length) for name, case in CASES.items() for length in case.lengths]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), RUNS)
def test_layer_is_faster_and_smaller_than_its_peer(name: str, length: int) -> None:
    case = CASES[name]
    if missing(case):
        pytest.skip(f"{case.module} is not installed: pip install -e '.[peers]'")
    row = compare(case, length)
    assert row.holds, f"\n{table([row])}"


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_a_tree_is_as_fast_as_itself(full: bool, tmp_path: Path) -> None:
    """Both ways of timing a tree, on a run of short texts."""
    words = ["task=listops", "task.sizes=[400,50,50]", "task.max_depth=3", f"data_dir={tmp_path}"]
    row = rates.compare(rates.HERE.parents[2], "local", words, [], full, rounds=5, steps=5)
    assert [t.tokens for t in row.ours] == [t.tokens for t in row.theirs]
    assert 0.7 < row.ratio < 1.4 and (not full or 0 < row.bytes[0] == row.bytes[1])
