"""One layer against the package from PyPI, at the bars of the project. Minutes: run with -m slow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bench import rates, recent
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


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.pair.__module__ == recent.__name__])
def test_the_two_sides_are_of_one_size(name: str) -> None:
    """Shapes, and parameters within a tenth; where the peer is the same function, its numbers too."""
    if missing(CASES[name]):
        pytest.skip(f"{CASES[name].module} is not installed: pip install -e '.[peers]'")
    length = 256
    torch.manual_seed(0)
    ours, peer = (make() for make in CASES[name].pair(length))
    x, mask = torch.randn(2, length, 256), torch.ones(2, length, dtype=torch.bool)
    if name == "mlstm":
        peer.load_state_dict(ours.state_dict())
    elif name == "mingru":  # theirs has the state first, then the gate, as ours
        peer.layer.to_hidden_and_gate.load_state_dict(ours.enter.state_dict())
        peer.outer.load_state_dict(ours.out.state_dict())
    counts = [sum(p.numel() for p in side.parameters()) for side in (ours, peer)]
    assert abs(counts[0] - counts[1]) <= 0.1 * counts[1]
    y, z = ours(x, mask), peer(x)
    assert y.shape == z.shape == x.shape
    if name in ("fnet", "mingru", "mlstm"):
        torch.testing.assert_close(y, z, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_a_tree_is_as_fast_as_itself(full: bool, tmp_path: Path) -> None:
    """Both ways of timing a tree, on a run of short texts."""
    words = ["task=listops", "task.sizes=[400,50,50]", "task.max_depth=3", f"data_dir={tmp_path}"]
    row = rates.compare(rates.HERE.parents[2], "local", words, [], full, rounds=5, steps=5)
    assert [t.tokens for t in row.ours] == [t.tokens for t in row.theirs]
    assert 0.7 < row.ratio < 1.4 and (not full or 0 < row.bytes[0] == row.bytes[1])
