"""keep=best: the best weights beside the record, with their digest, and wherever the record goes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lra.record import merge, reserve, store
from lra.record.sheet import opened
from lra.runner.known import already
from lra.runner.run import recorded
from lra.settings import build
from lra.train import checkpoint
from lra.train.evaluate import evaluate
from tests.help import tiny

OFF = "measure.enabled=false"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("kept")
    settings = tiny.config(folder, OFF, "keep=best")
    return folder, (settings, recorded(settings))


def test_the_weights_lie_beside_the_record_and_answer_as_it_says(done) -> None:
    from lra.machine.device import accelerator

    folder, (settings, r) = done
    sheet = opened(store.folder(folder / "results", r.task, r.model) / f"{r.run_id}.json")
    assert r.kept["file"] == r.checkpoint == f"{r.run_id}.safetensors"
    assert hashlib.sha256(sheet.weights.read_bytes()).hexdigest() == r.kept["sha256"]
    assert not list((folder / "out").rglob("*.safetensors"))
    exam = build.task(settings)
    model = build.model(settings, exam)
    checkpoint.load(sheet.weights, model, exam.vocabulary)
    score = evaluate(model, exam, "test", settings, accelerator("cpu", "float32"))
    assert (score.predictions == np.load(sheet.predictions)["predictions"]).all()


def test_a_run_without_its_weights_does_not_stand_for_one_with_them(done, tmp_path: Path) -> None:
    _, (settings, _) = done
    assert already(settings) is not None
    recorded(tiny.config(tmp_path, OFF))
    assert already(tiny.config(tmp_path, OFF)) is not None and already(tiny.config(tmp_path, OFF, "keep=best")) is None


def test_they_come_along_and_are_swept_up_where_no_record_names_them(done, tmp_path: Path) -> None:
    folder, (_, r) = done
    merge.merge(tmp_path, folder / "results")
    place = store.folder(tmp_path, r.task, r.model)
    assert opened(place / f"{r.run_id}.json").weights.is_file()
    for name in (r.run_id, "20260101T000000Z-gone"):
        (place / f"{name}{reserve.WEIGHTS}").touch()
        reserve.Reserve(place, name, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reserve, "is_gone", lambda _: True)
        reserve.tidy(tmp_path)
    assert (place / r.kept["file"]).exists() and not (place / f"20260101T000000Z-gone{reserve.WEIGHTS}").exists()


def test_a_disk_that_is_too_full_for_them_costs_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.write_once

    def full(path: Path, content: bytes) -> Path:
        if path.suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(store, "write_once", full)
    r = recorded(tiny.config(tmp_path, OFF, "keep=best"))
    assert r.status == "ok" and r.kept is None and r.checkpoint is None and r.accuracy_test is not None
