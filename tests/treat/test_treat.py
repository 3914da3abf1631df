"""A derived record from end to end: the same items, what changed, a chain, and what is refused or fails."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lra
from lra.errors import UserError
from lra.record import store
from lra.record.sheet import opened
from lra.treat import __main__ as door
from lra.treat import table
from lra.treat.asked import asked
from tests.help import tiny, treated

pytestmark = pytest.mark.xdist_group("treat")  # which share a trained parent
NULL = ("accuracy_valid", "items_valid", "steps_done", "steps_budget", "best_step", "checkpoint")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """(folder, parent, derived): nothing done, with its weights, in a process of its own as a user has it."""
    folder = tmp_path_factory.mktemp("treat")
    parent = treated.trained(folder)
    words = [f"record={parent.run_id}", "treatment=identity", "keep=best", *treated.places(folder)]
    done = tiny.lra(*words, module="lra.treat")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return folder, parent, next(r for _, r in store.find(folder / "results") if r.kind == "derived")


def sheet_of(folder: Path, r: Any) -> Any:
    return opened(store.folder(folder / "results", r.task, r.model) / f"{r.run_id}.json")


def predictions(folder: Path, r: Any) -> np.ndarray:
    found = np.load(sheet_of(folder, r).predictions)
    return found["differences"]


def test_nothing_done_changes_nothing(made: tuple[Path, Any, Any]) -> None:
    folder, parent, child = made
    assert (child.kind, child.status, child.parent, child.schema) == ("derived", "ok", parent.run_id, 9)
    assert child.treatment["name"] == "identity" and child.config_hash != parent.config_hash
    assert child.accuracy_test == parent.accuracy_test and child.loss_test == parent.loss_test
    assert (predictions(folder, child) == predictions(folder, parent)).all()
    said = child.derived
    assert (said["flipped"], said["broken"], said["mended"], said["parent_differs"]) == (0, 0, 0, 0)
    low, high = said["difference"]["low"], said["difference"]["high"]
    assert low < 0 < high and low == -high and said["difference"]["p"] == 1  # equal only as far as 120 items tell
    assert said["loss"] == {"value": 0, "low": 0, "high": 0}
    assert all(getattr(child, name) is None for name in NULL) and not (child.curve or child.training or child.cost)
    assert child.score["floor"] == parent.score["floor"] and child.score["reached"] == []


def test_both_are_timed_at_the_runs_batch_and_at_one(made: tuple[Path, Any, Any]) -> None:
    run, one = made[2].derived["inference"]
    assert (run["batch_size"], one["batch_size"]) == (32, 1)
    for point in (run, one):
        assert point["ratio"]["low"] <= point["ratio"]["value"] <= point["ratio"]["high"]
        assert len(point["child"]["seconds"]) == len(point["parent"]["seconds"]) >= 5
        assert point["peak_ratio"] == 1 and 0.2 < point["ratio"]["value"] < 5
    assert run["parent"]["peak_bytes"] > one["parent"]["peak_bytes"] > 0
    assert run["parent"]["examples_per_second"] > one["parent"]["examples_per_second"]


def test_a_chain_starts_from_the_kept_weights(made: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _, child = made
    weights = sheet_of(folder, child).weights
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == child.kept["sha256"]
    r = treated.treat(monkeypatch, folder, child.run_id, "treatment=fake_quant", "treatment.bits=24")
    assert r.status == "ok" and r.parent == child.run_id and r.derived["flipped"] == 0
    assert r.derived["inference"] == [] and r.derived["facts"]["executed"] is False
    assert (predictions(folder, r) == predictions(folder, child)).all()
    shown = lra.load(folder / "results").derived
    row = shown[shown.run_id == r.run_id].iloc[0]
    assert row.chain == "identity > fake_quant bits=24" and row.option == "fake_quant bits=24"


def test_sizes_are_cut_out_of_what_is_kept_and_nothing_is_trained_twice(
    made: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a derived record with its own size and cost."""
    from lra.treatments import elastic

    folder, parent, _ = made
    words = ["treatment=elastic", "treatment.steps=1", "treatment.examples=4"]
    whole = treated.treat(monkeypatch, folder, parent.run_id, *words, "keep=best")
    assert whole.status == "ok" and whole.kept and whole.parameters == parent.parameters
    monkeypatch.setattr(elastic, "trained", lambda *_: 1 / 0)
    small = ["treatment=cut", "treatment.width=0.5", "treatment.depth=0.5"]
    found = treated.treat(monkeypatch, folder, whole.run_id, *small)
    assert (found.status, found.parent, found.derived["parent_differs"]) == ("ok", whole.run_id, 0)
    said = found.derived["facts"]
    assert said["heads"] == [2] and said["neurons"] == [32] and said["layers"] == [0] and 0 < said["of_flops"] < 0.5
    assert found.parameters < parent.parameters and len(found.derived["inference"]) == 2
    assert said["weight_bytes"] == 4 * found.parameters
    row = lra.load(folder / "results").derived.set_index("run_id").loc[found.run_id]
    assert row.chain.endswith("examples=4 > cut width=0.5 depth=0.5") and row.flops == said["flops"] > 0


def test_no_board_shows_them_and_a_table_does(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, parent, _ = made
    shutil.copytree(folder / "results" / "runs", tmp_path / "runs")
    before = lra.load(folder / "results")
    for path in store.paths(tmp_path, parent.task, parent.model):
        if opened(path).record.kind == "derived":
            path.unlink()
    after = lra.load(tmp_path)
    assert len(before.runs) > len(after.runs) and len(before.derived) and not len(after.derived)
    shown = ["row", "model", "seeds", "learnt", "score", "accuracy", "low", "high", "files", "parameters", "status"]
    assert len(after.abilities) == 1 and before.abilities[shown].equals(after.abilities[shown])
    assert before.cells.empty and after.cells.empty
    text = "\n".join(table.rendered(before.derived))
    assert "identity" in text and parent.run_id in text and "+0.00" in text


def test_what_a_treatment_cannot_do_is_a_row(made: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, parent, _ = made
    from lra.treatments.identity import Identity

    monkeypatch.setattr(Identity, "after", lambda *_: 1 / 0)
    r = treated.treat(monkeypatch, folder, parent.run_id, "treatment=identity", "keep=best")
    assert (r.status, r.reason) == ("failed", "treating it: ZeroDivisionError: division by zero")
    assert r.accuracy_test is None and r.derived == {} and r.kept is None and r.predictions is None
    assert "failed: treating it" in "\n".join(table.rendered(lra.load(folder / "results").derived))


def test_another_models_answers_are_not_taken_for_the_parents(
    made: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lra.treat import child as process

    folder, parent, _ = made
    monkeypatch.setattr(process.checkpoint, "load", lambda *_: {})
    r = treated.treat(monkeypatch, folder, parent.run_id, "treatment=fake_quant")
    assert r.status == "failed" and "answers otherwise than recorded" in r.reason


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["treatment=identity"], ["record=ID", "int8_dynamic"]),
        (["record={id}"], ["treatment=NAME", "fake_quant"]),
        (["record={id}", "treatment=identiy"], ["treatment", "Did you mean identity"]),
        (["record={id}", "treatment=fake_quant", "treatment.bits=1"], ["treatment.bits", "1", "2 to 24"]),
        (["record={id}", "treatment=fake_quant", "treatment.calibration=min"], ["calibration", "percentile"]),
        (["record={id}", "treatment=layers", "treatment.share=0.9"], ["treatment.share", "(0, 0.5]"]),
        (["record={id}", "treatment=identity", "train.steps=3"], ["train.steps=3", "allowed"]),
        (["record=20260101T000000Z-none", "treatment=identity"], ["record", "20260101T000000Z-none"]),
        (["record=/nowhere/x.json", "treatment=identity"], ["record", "/nowhere/x.json"]),
    ],
)
def test_bad_words_get_one_line(made: tuple[Path, Any, Any], words: list[str], parts: list[str]) -> None:
    folder, parent, _ = made
    with pytest.raises(UserError) as caught:
        asked([w.format(id=parent.run_id) for w in words] + treated.places(folder))
    assert "\n" not in str(caught.value) and all(part in str(caught.value) for part in parts), caught.value


def test_a_parent_that_says_nothing_is_refused(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, parent, _ = made
    there = tmp_path / "results" / "runs" / parent.task / parent.model
    shutil.copytree(store.folder(folder / "results", parent.task, parent.model), there)
    words = [f"record={parent.run_id}", "treatment=identity", *treated.places(tmp_path)]
    (there / parent.kept["file"]).write_bytes(b"other")
    with pytest.raises(UserError, match="are not those that"):
        asked(words)
    (there / parent.kept["file"]).unlink()
    with pytest.raises(UserError, match="are not beside it"):
        asked(words)
    untrained = treated.trained(tmp_path, "train.steps=1")
    with pytest.raises(UserError, match="stands at its floor"):
        asked([f"record={untrained.run_id}", "treatment=identity", *treated.places(tmp_path)])
    forgotten = treated.trained(tmp_path, "train.steps=1", "keep=no")
    with pytest.raises(UserError, match="keep=best"):
        asked([f"record={forgotten.run_id}", "treatment=identity", *treated.places(tmp_path)])


def test_a_dry_run_does_nothing(made: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder, parent, _ = made
    before = list(folder.rglob("*"))
    words = [f"record={parent.run_id}", "treatment=fake_quant", "treatment.bits=4", *treated.places(folder)]
    monkeypatch.setattr("sys.argv", ["lra.treat", *words, "--dry-run"])
    assert door.main() == 0 and "fake_quant bits=4 of transformer on shift" in capsys.readouterr().out
    assert list(folder.rglob("*")) == before
