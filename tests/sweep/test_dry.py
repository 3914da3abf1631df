"""What would be done is said, and nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra.errors import UserError
from lra.record import store
from lra.runner.known import Shelf
from lra.runner.run import recorded
from lra.settings import compose
from lra.sweep import dry
from tests.help import tiny

WORDS = ("task=shift", "task.sizes=[40,60]", "train.steps=4", "train.eval_every=2", "measure.seconds=0.1")
SMALL = ("size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "train.batch_size=8", "measure.steps=3", "threads=1")


@pytest.mark.usefixtures("warm")
def test_before_and_after_a_run(tmp_path: Path) -> None:
    """Before it neither time nor memory is known; of another seed both are, and what is recorded is told."""
    words = [*WORDS, *SMALL, f"results_dir={tmp_path}", f"output_dir={tmp_path / 'out'}", "model=linear"]
    first = dry.of_run(compose.config(words))
    assert "1 to do" in first and "the time is not known here" in first
    assert not any(tmp_path.iterdir()), "nothing is written"
    assert recorded(compose.config(words)).status == "ok"
    before = sorted((tmp_path / "runs").rglob("*"))
    (path, record) = next((p, r) for p, r in store.find(tmp_path) if r.kind == "model")
    plan = dry.Plan.of(compose.config(words), Shelf())
    assert (plan.what, plan.why, plan.steps) == ("recorded", str(path), 4)
    other = dry.Plan.of(compose.config([*words, "seed=5"]), Shelf())
    assert (other.what, other.parameters, other.peak) == ("to do", record.parameters, record.cost["step_peak_bytes"])
    assert other.seconds == record.wall_seconds["total"]
    sweep = tiny.lra("-m", *words, "seed=0,5", "size.heads=2,3", "--dry-run")
    assert sweep.returncode == 1 and sweep.stdout.count("refused: size.heads: 3 does not divide") == 2
    assert "1 to do, 1 recorded, 2 refused" in sweep.stdout and "about" in sweep.stdout
    assert sorted((tmp_path / "runs").rglob("*")) == before


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_of_a_cost_sweep_it_is_how_many_points(tmp_path: Path) -> None:
    points = tiny.lra("sweep=cost", "model=linear,local", f"results_dir={tmp_path}", "--dry-run")
    assert points.returncode == 0 and "points to measure" in points.stdout and "nothing was run" in points.stdout
    assert not any(tmp_path.iterdir())


def test_data_that_are_not_here_are_not_got(tmp_path: Path) -> None:
    found = dry.of_run(compose.config(["task=listops", f"data_dir={tmp_path}", f"results_dir={tmp_path}"]))
    assert "data that are not here: listops: python -m lra.data prepare task=listops" in found
    assert not any(tmp_path.iterdir())


def test_what_the_run_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="size.heads: 3"):
        dry.of_run(compose.config(["task=shift", "size.heads=3", f"results_dir={tmp_path}"]))
