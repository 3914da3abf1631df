"""Records: whole or absent, never overwritten, readable for ever."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lra.record import record, sheet, store
from lra.settings import identity
from tests.help import tiny
from tests.help.made import example

OLD = tiny.ROOT / "tests" / "records"


def test_round_trip(tmp_path: Path) -> None:
    written = example(accuracy_test=0.5, curve=[{"step": 1}])
    path = store.write(tmp_path, written)
    assert path == tmp_path / "runs" / "listops" / "performer" / f"{written.run_id}.json"
    assert sheet.read(path) == written
    assert [r for _, r in store.find(tmp_path)] == [written]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a draft was left behind"


def test_an_edit_by_hand_shows(tmp_path: Path) -> None:
    path = store.write(tmp_path, example(accuracy_test=0.5, versions={"torch": "2"}, wall_seconds={"total": 1.0}))
    raw = json.loads(path.read_text())
    assert raw["digest"] == record.digest_of(raw) == sheet.read(path).digest
    assert raw["digest"] != record.digest_of(raw | {"accuracy_test": 0.6})


def test_never_overwritten(tmp_path: Path) -> None:
    first = example()
    path = store.write(tmp_path, first)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        store.write(tmp_path, replace(first, status="failed"))
    assert path.read_bytes() == before


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write(tmp_path, example(accuracy_test=float("nan")))
    assert not list(tmp_path.rglob("*.json"))


def test_drafts_are_not_records(tmp_path: Path) -> None:
    path = store.write(tmp_path, example())
    (path.parent / ".half.json.1.draft").write_text("{")
    (path.parent / ".half.json").write_text("{")
    assert len(list(store.find(tmp_path))) == 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "status": "fine"}', '{"schema": 1, "status": "ok", "x": 1}'],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="x.json"):
        sheet.read(path)


NULLS = {
    "machine": ["name", "device", "threads", "cores"],
    "data": ["fingerprint"],
    "cost": ["mode", "sweep", "curve", "step_peak_bytes", "point_seconds", "train_flops", "inference_flops",
             "disturbed", "train", "inference", "ceilings"],
    "training": ["seconds", "examples_per_second", "padding_share", "parts", "undivided"],
}  # fmt: skip


@pytest.mark.parametrize(("within", "name"), [(within, name) for within, names in NULLS.items() for name in names])
def test_what_was_not_measured_is_null_and_reads(within: str, name: str, tmp_path: Path) -> None:
    written = example(**{within: {name: None}})
    assert sheet.read(store.write(tmp_path, written)) == written


@pytest.mark.parametrize("name", ["accuracy_test", "predictions", "groups", "machine", "wall_seconds", "digest"])
def test_a_record_of_today_has_every_field_one_of_the_first_schema_those_it_had(name: str, tmp_path: Path) -> None:
    path = store.write(tmp_path, example())
    raw = json.loads(path.read_text())
    del raw[name]
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=f"{name} is missing"):
        sheet.read(path)


def test_records_name_no_place_on_the_machine() -> None:
    config = {"data_dir": "/home/me", "results_dir": "/r", "output_dir": "/o", "checkpoint": "/home/me/x.safetensors"}
    config["task"] = {"path": "/home/me/lra_release/listops-1000", "data_dir": "/home/me"}
    text = json.dumps(identity.portable(config))
    assert "/home" not in text and "listops-1000" in text


@pytest.mark.parametrize("path", sorted(OLD.glob("*.json")), ids=lambda p: p.stem)
def test_old_records_load_for_ever(path: Path) -> None:
    assert sheet.read(path).schema <= record.SCHEMA


def test_there_are_old_records() -> None:
    assert list(OLD.glob("*.json"))
