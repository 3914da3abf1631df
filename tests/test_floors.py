"""`python -m lra.floors`: what it scores, and what it leaves."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lra import floors
from lra.record import record, store
from lra.settings import build


class Split(list):
    """Items that are their labels."""

    @property
    def labels(self) -> np.ndarray:
        return np.array(self)


def exam(row: str, fingerprint: str, before: str | None = None) -> Any:
    """Four test items, of which a rule that answers 1 gets three. The row is `before` until the
    fingerprint has been asked for, which reads the data."""

    def read() -> str:
        made.row = row
        return fingerprint

    made = SimpleNamespace(
        row=before or row,
        local_rules=("ones",),
        vocabulary="v",
        vocab_size=2,
        fingerprint=read,
        notes=dict,
        of_answers=lambda predictions, labels: {},
        split=lambda name: Split([1, 0, 1, 1]),
        rules=lambda: {"ones": lambda train, test: np.ones(len(test))},
        learned_rules=dict,
    )
    return made


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command in this process on made-up exams; its records."""

    def run(exams: dict[str, Any], *words: str) -> tuple[int, list[record.Record]]:
        monkeypatch.setattr(build, "task", lambda cfg: exams[cfg.choices.task])
        monkeypatch.setattr("sys.argv", ["lra.floors", *words, f"results_dir={tmp_path}"])
        return floors.main(), [r for _, r in store.find(tmp_path)]

    return run


def test_an_exam_under_two_names_is_scored_once(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"image": exam("image_jpeg", "f", before="image"), "image_jpeg": exam("image_jpeg", "f")}
    code, rows = command(same, "task=image,image_jpeg")
    assert code == 0 and [(r.task, r.row, r.model, r.accuracy_test) for r in rows] == [
        ("image", "image_jpeg", "ones", 0.75)
    ]
    assert "image_jpeg: the data that task=image found, above" in capsys.readouterr().out


def test_exams_that_differ_are_all_scored_and_once(command: Any) -> None:
    two = {"image": exam("image", "f"), "image_jpeg": exam("image_jpeg", "f")}
    assert len(command(two, "task=image,image_jpeg")[1]) == 2
    assert len(command(two, "task=image,image_jpeg")[1]) == 2


def test_a_task_without_data_does_not_end_the_others(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broken = exam("text", "g")
    broken.rules = lambda: (_ for _ in ()).throw(ValueError("task.path: not there"))
    code, rows = command({"text": broken, "image": exam("image", "f")}, "task=text,image")
    assert code == 1 and [r.row for r in rows] == ["image"]
    assert capsys.readouterr().err == "text: task.path: not there\n"


def test_an_exam_of_ones_own_has_its_floors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "task").mkdir(parents=True)
    sizes = "max_len: 60, path: null, sizes: [60, 40, 40], min_length: 10, max_depth: 4, max_args: 4"
    text = f"# @package _global_\ntask: {{_target_: lra.tasks.listops.ListOps, name: mine, {sizes}}}\n"
    (tmp_path / "mine" / "task" / "mine.yaml").write_text(text + "exam: {of: mine, title: Mine, order: 50}\n")
    words = ["task=mine", f"--config-dir={tmp_path / 'mine'}", f"results_dir={tmp_path}", f"data_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["lra.floors", *words])
    assert floors.main() == 0
    assert {r.task for _, r in store.find(tmp_path)} == {"mine"} and len(list(store.find(tmp_path))) == 5
