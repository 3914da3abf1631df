"""From floor to ceiling: what a record of an exam that knows both keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lra.machine.heartbeat import felt
from lra.record.sheet import opened, problem
from lra.runner.keeper import Watch, conclusion
from lra.runner.run import recorded
from lra.runner.score import scored
from lra.settings import build, compose
from lra.settings.schema import Run
from tests.help import tiny

QUICK = (
    "budget=ability", "measure.enabled=false", "task.sizes=[40,60]", "train.batch_size=8", "train.eval_every=4",
    "train.steps=10", "train.halve_at=[3,6]", "train.warmup_steps=2", "size.dim=16", "size.qkv_dim=16",
    "size.mlp_dim=16", "size.depth=1", "threads=1",
)  # fmt: skip


def run(tmp_path: Path, *words: str, tell: Any = None) -> Any:
    places = [w for w in tiny.words(tmp_path) if w.split("=")[0].endswith("_dir")]
    return recorded(compose.config([*places, *QUICK, *words]), tell)


def test_a_run_over_four_rates(tmp_path: Path) -> None:
    record = run(tmp_path, "task=shift", "task.max_len=12", "task.by=3", "model=transformer", "train.stop_at=null")
    assert (
        record.status == "ok" and problem(opened(next(tmp_path.glob("results/runs/*/transformer/*.json"))).raw) is None
    )
    assert [r["rate"] for r in record.ladder] == [3e-4, 1e-3, 3e-3, 1e-2]
    assert sorted(r["steps"] for r in record.ladder) == [3, 3, 6, 10]
    assert sorted(str(r["ended"]) for r in record.ladder) == ["None", "dropped", "dropped", "dropped"]
    taken = next(r for r in record.ladder if r["steps"] == 10)
    assert taken["curve"]["step"] == [p["step"] for p in record.curve] == [3, 4, 6, 8, 10]
    assert record.steps_done == record.steps_budget == 10
    assert record.state_floats == 2 * 12 * 16, "keys and values of one layer"
    score, exam = record.score, build.task(compose.config(["task=shift", "task.max_len=12", "task.by=3"]))
    assert (score["floor"], score["ceiling"]) == (exam.floor(2), 1.0) == exam.levels("test")
    assert score["test"] == pytest.approx((record.accuracy_test - score["floor"]) / (1 - score["floor"]))
    assert score["learnt"] is (score["test"] >= 0.98) is False
    assert [r["sequences"] for r in score["reached"]] == [None, None]


def test_whoever_keeps_it_counts_the_steps_of_all_rates(tmp_path: Path) -> None:
    """A killed run's record counts those of one rate."""
    told: list[dict[str, Any]] = []
    words = ("task=shift", "task.max_len=12", "task.by=3", "model=transformer", "train.stop_at=null")
    with felt(lambda beat: told.append({"beat": beat})):
        run(tmp_path, *words, tell=told.append)
    told = [message for message in told if {"beat", "phase"} & set(message)]
    at = max(i for i, message in enumerate(told) if message.get("phase") == "train")
    assert all(message["steps"] == 4 * 3 + 2 * 3 + 4 == 22 for message in told if "phase" in message)
    watch = Watch(SimpleNamespace(code=-11, how=lambda: "crashed"), Run())
    watch.tree.channel = SimpleNamespace(waiting=lambda: [*told[: at + 1], {"beat": {"step": 22}}])
    watch.listen()
    assert (watch.step, watch.steps) == (22, 22)
    assert conclusion(watch).steps_done == 10


def draft(exam: Any, curve: list[tuple[int, float]], best: float) -> Any:
    points = [{"step": s, "valid_accuracy": a, "core_seconds": float(s)} for s, a in curve]
    return SimpleNamespace(
        exam=exam,
        fit=SimpleNamespace(curve=points),
        accuracy_valid=best,
        settings=SimpleNamespace(train=SimpleNamespace(batch_size=64)),
    )


def test_when_it_was_reached() -> None:
    """By score on valid, the first time; each kind of answer apart; valid has a law of its own in flip-flops."""
    exam = build.task(compose.config(["task=flipflop", "task.sizes=[30,40]"]))
    (low, high), (floor, ceiling) = exam.levels("valid"), exam.levels("test")
    assert low != floor and high == ceiling == 1.0
    curve = [(50, 0.6), (100, low + 0.91 * (1 - low)), (150, low + 0.89 * (1 - low)), (200, low + 0.985 * (1 - low))]
    items = exam.split("test").all
    labels = items.labels[items.labels >= 0]
    wrong = exam.asked_kinds("test") == exam.kinds.index("ignore 0.98")
    predictions = np.where(wrong, 1 - labels, labels)
    test = SimpleNamespace(accuracy=float((predictions == labels).mean()), predictions=predictions, labels=labels)
    found = scored(draft(exam, curve, curve[-1][1]), test)
    assert [(r["sequences"], r["core_seconds"]) for r in found["reached"]] == [(6400, 100.0), (12800, 200.0)]
    assert found["valid"] == pytest.approx(0.985)
    assert {k: v["accuracy"] for k, v in found["kinds"].items()} == {
        "ignore 0.8": 1.0, "ignore 0.98": 0.0, "ignore 0.1": 1.0,
    }  # fmt: skip
    assert sum(v["items"] for v in found["kinds"].values()) == len(labels)
    assert found["kinds"]["ignore 0.98"]["items"] == int(wrong.sum())


def test_an_exam_without_levels_has_no_score(tmp_path: Path) -> None:
    exam = SimpleNamespace(levels=lambda split: None)
    assert scored(draft(exam, [], 0.5), None) == {}


def test_other_lengths(tmp_path: Path) -> None:
    """Trained at one, tested at others where the model takes them; a refusal is said and is no failure."""
    words = ("task=shift", "task.max_len=12", "task.by=3", "task.test_len=[12,24,3]", "model=transformer")
    record = run(tmp_path, *words, "size.position=sinusoidal")
    same, double, none = record.score["lengths"]
    assert same == {"length": 12, "accuracy": record.accuracy_test, "test": record.score["test"], "refused": None}
    assert double["length"] == 24 and 0 <= double["accuracy"] <= 1 and double["refused"] is None
    assert none["accuracy"] is None and none["refused"].startswith("task.by: 3 is not below")


@pytest.mark.slow
def test_other_lengths_that_are_in_sight_or_have_no_position(tmp_path: Path) -> None:
    near = run(tmp_path, "task=needle", "task.max_len=12", "task.test_len=[3]", "model=lstm", "size.position=none")
    assert near.status == "ok" and near.score["lengths"][0]["accuracy"] is not None
    assert near.score["lengths"][0]["test"] is None  # all is within sight
    words = ("task=shift", "task.max_len=12", "task.by=3", "task.test_len=[12,24,3]", "model=transformer")
    record = run(tmp_path, *words, "size.position=learned")
    assert record.status == "ok" and record.score["lengths"][0]["accuracy"] == record.accuracy_test
    assert record.score["lengths"][1]["refused"] == "length 24 is above the 12 positions that are learned"
