"""MAD's sweep: every point of it is an exam that can be sat; one of them is, from the words to the record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from lra.record import store
from lra.root import CONFIGS
from lra.settings import build, compose, identity, words
from lra.settings.typed import plain
from lra.sweep.job import Job
from tests.help import tiny

SWEEP = yaml.safe_load((CONFIGS / "sweep" / "mad.yaml").read_text())["hydra"]
LADDERS, GRID = (SWEEP["callbacks"]["sweep"][name] for name in ("ladders", "grid"))
STEPS = {12800: 20000, 6400: 10000, 3200: 5000, 1600: 2600, 800: 1400, 256: 400}  # 200 epochs in batches of 128


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 9])
@pytest.mark.parametrize("task", LADDERS)
def test_every_point_is_an_exam_of_its_own(task: str, every: int) -> None:
    """None is a variant but by its steps and its decay; all have rows of their own."""
    rows, hashes, rungs = set(), set(), LADDERS[task][::every]
    for i, rung in enumerate(rungs):
        cfg = compose.config([f"task={task}", "budget=mad", *rung, *GRID[i % 2]])
        exam = build.task(cfg)
        few = exam.split("train").drawn(np.arange(2))
        assert few.tokens.shape == (2, cfg.task["max_len"]) and few.tokens.max() < exam.vocab_size
        assert cfg.train.steps == STEPS[cfg.task["items"]]
        assert cfg.train.steps_in_all == 3 * cfg.train.steps, "every rate is trained whole"
        assert all(word.startswith("train.") for word in cfg.variant) and bool(cfg.variant) == (
            i % 2 == 1 or "train.steps" in str(rung)
        )
        rows.add(exam.row)
        hashes.add(identity.identity(plain(cfg)))
    assert len(rows) == len(hashes) == len(rungs)


def test_the_ladders_are_those_of_the_paper() -> None:
    assert {task: len(rungs) for task, rungs in LADDERS.items()} == {
        "recall_adjacent": 11 + 10 + 7, "select": 13, "compress": 11, "memorise": 6
    }  # fmt: skip
    assert SWEEP["sweeper"]["params"]["task"].split(",") == list(LADDERS)


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_sweeps_name_tasks_that_are_there(path: Path) -> None:
    tasks = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]["task"]
    assert tasks.startswith("glob(") or set(tasks.split(",")) <= set(words.choices("task"))


def test_words_of_ones_own_win() -> None:
    job = Job(("task=select", "model=linear", "budget=mad", "train.steps=20"), None, "select", "linear", 0, "x")
    more = job.also(["task.marked=32", "train.steps=10000"])
    assert more.words == (*job.words, "task.marked=32") and more.label == "x task.marked=32"


@pytest.mark.slow
def test_one_point_is_sat(tmp_path: Path) -> None:
    """The sweep of one task and a model, cut down; each of its points leaves a record with both scores."""
    places = [word for word in tiny.words(tmp_path) if word.split("=")[0].endswith("_dir")]
    asked = [
        "sweep=mad", "task=compress", "model=identity", "seed=0", "train.steps=4",
        "train.eval_every=2", "train.batch_size=8", "task.sizes=[16,16]", "task.items=24", "task.values=5",
        "size.dim=8", "size.qkv_dim=8", "size.heads=1", "size.mlp_dim=8", "size.depth=1", "measure.enabled=false",
        "threads=1", "task.max_len=12",
    ]  # fmt: skip
    done = tiny.lra(*asked, *places, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    # All words of the ladder were overridden, so that of its eleven points one is left, with two decays.
    assert len(records) == 2 and {r.config["train"]["weight_decay"] for r in records} == {0.0, 0.1}
    for r in records:
        assert r.budget == "mad" and r.row.endswith("-items24") and r.data["items"]["train"] == 24
        assert r.score["valid"] is not None and r.score["test"] is not None and len(r.ladder) == 3
        assert all(rung["steps"] == 4 for rung in r.ladder)
