"""--check: what is published is what whole records give, and nothing else passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lra.leaderboard import files, verify
from lra.leaderboard.view import boards
from lra.plot import render, style
from lra.record import answers, content, record, sheet, store
from lra.results import load
from tests.help import answered, tiny

pytestmark = pytest.mark.xdist_group("verify")
OLD = tiny.ROOT / "tests" / "records"


def problems(folder: Path) -> list[str]:
    """All lines about records and groups."""
    found = load(folder)
    lines = [f"{file}: {said}" for file, said in verify.of_records(found)]
    return lines + list(verify.of_groups(found.runs))


def edit(folder: Path, made: record.Record, honest: bool = False, **values: object) -> None:
    """Change fields of a record by hand; `honest` computes its digest anew."""
    path = store.folder(folder, made.task, made.model) / f"{made.run_id}.json"
    raw = json.loads(path.read_text()) | values
    if honest:
        raw["digest"] = record.digest_of(raw)
    path.write_text(json.dumps(raw))


def test_whole_records_pass(tmp_path: Path) -> None:
    answered.run(tmp_path, "transformer", 0.4)
    answered.run(tmp_path, "linear", None)
    answered.floor(tmp_path, "majority", 0.1)
    assert problems(tmp_path) == []


@pytest.mark.parametrize("path", sorted(OLD.glob("*.json")), ids=lambda p: p.stem)
def test_old_records_keep_their_schema_for_ever(path: Path) -> None:
    assert sheet.problem(json.loads(path.read_text())) is None


def test_an_edit_by_hand_breaks_the_digest(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    edit(tmp_path, made, loss_test=0.1)
    [line] = problems(tmp_path)
    assert made.run_id in line and "digest" in line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"accuracy_test": 1.2}, "a fraction"),
        ({"accuracy_test": "0.3"}, "float"),
        ({"seed": 0.5}, "seed 0.5; allowed int"),
        ({"variant": "x"}, "list[str]"),
        ({"parameters": True}, "parameters true"),
        ({"kind": "guess"}, "model, floor, cost"),
        ({"schema": 99}, "schema 99"),
        ({"status": "oom"}, "reason is null"),
        ({"status": "fine"}, 'status "fine"'),
        ({"colour": "red"}, "unknown fields colour"),
        ({"model": "other"}, "says it is runs/listops/other"),
    ],
)
def test_what_is_not_of_the_schema_is_named(tmp_path: Path, values: dict, said: str) -> None:
    made = answered.run(tmp_path, "linear", 0.3, stored=False)
    edit(tmp_path, made, honest=True, **values)
    lines = [f"{file}: {said}" for file, said in verify.of_records(load(tmp_path))]
    assert any(said in line and made.run_id in line for line in lines), lines


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    path = store.folder(tmp_path, made.task, made.model) / f"{made.run_id}.json"
    raw = json.loads(path.read_text())
    del raw["commit"]
    path.write_text(json.dumps(raw | {"digest": record.digest_of(raw)}))
    assert any("commit is missing" in line for line in problems(tmp_path))


@pytest.mark.parametrize("harm", ["gone", "other bytes", "other answers"])
def test_predictions_must_be_those_of_the_record(tmp_path: Path, harm: str) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    stored = store.folder(tmp_path, made.task, made.model) / made.predictions["file"]
    if harm == "gone":
        stored.unlink()
    elif harm == "other bytes":
        stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    else:
        edit(tmp_path, made, honest=True, accuracy_test=0.35)
    [(_, line)] = verify.of_records(load(tmp_path))
    assert {"gone": "not there", "other bytes": "SHA-256", "other answers": "predictions give 0.3"}[harm] in line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"machine": answered.MACHINE | {"device": "cuda"}}, "devices cpu and cuda"),
        ({"dtype": None}, "dtype is null"),
        ({"machine": {}}, "machine is null"),
        ({"data": {"fingerprint": "changed"}}, "different data"),
    ],
)
def test_records_that_would_share_an_axis(tmp_path: Path, values: dict, said: str) -> None:
    answered.run(tmp_path, "transformer", 0.4)
    answered.run(tmp_path, "linear", 0.3, **values)
    lines = problems(tmp_path)
    assert any(said in line for line in lines), lines


def test_budgets_devices_and_dtypes_apart_are_no_problem(tmp_path: Path) -> None:
    answered.run(tmp_path, "transformer", 0.4)
    answered.run(tmp_path, "transformer", 0.4, budget="paper")
    answered.run(tmp_path, "transformer", 0.4, dtype="bfloat16")
    answered.run(tmp_path, "transformer", 0.4, machine={"name": "Example GPU", "device": "cuda", "threads": 4})
    assert problems(tmp_path) == []


def test_numbers_of_threads_apart_are_two_machines_of_one_accuracy(tmp_path: Path) -> None:
    """A reader's run with all of his cores, on a processor that the board's records name too."""
    speed = {"cost": {"status": "ok", "train": {"examples_per_second": 10.0}, "step_peak_bytes": 1}}
    answered.run(tmp_path, "transformer", 0.4, **speed)
    answered.run(tmp_path, "linear", 0.3, machine=answered.MACHINE | {"threads": 2}, **speed)
    assert problems(tmp_path) == []
    found = load(tmp_path)
    name = answered.MACHINE["name"]
    assert dict(zip(found.timed.model, found.timed.machine, strict=True)) == {
        "transformer": name,
        "linear": f"{name}, 2 threads",
    }
    assert set(found.cells.model) == {"transformer", "linear"} and found.cells.accuracy.notna().all()
    assert set(found.cells.timed) == {name}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    answered.run(folder, "transformer", 0.4)
    answered.run(folder, "linear", 0.3)
    found = load(folder)
    figures = render.render(found)
    for name, data in (figures | files.files(boards(found), figures)).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_the_command_passes_on_what_was_just_built(published: Path) -> None:
    """In a process of another hash seed."""
    done = tiny.lra(f"results_dir={published}", "--check", module="lra.leaderboard", PYTHONHASHSEED="3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 records are whole" in done.stdout


def harmed(path: Path) -> Callable[[], None]:
    """Append to a file; the function returned puts it back."""
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    return lambda: path.write_bytes(before)


def test_published_files_must_be_what_the_records_give(published: Path) -> None:
    given = verify.expected(load(published))
    assert list(verify.of_published(published, given)) == []
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.html", next(n for n in given if n.endswith("svg"))):
        back = harmed(published / name)
        [line] = verify.of_published(published, given)
        assert line.startswith(f"{name}: differs") and "rebuild it: python -m lra." in line
        back()
    less = {k: v for k, v in given.items() if k != "leaderboard.tex" and not k.endswith(".png")}
    lines = list(verify.of_published(published, less))
    assert any(line.startswith("leaderboard.tex: no record gives it") for line in lines) and len(lines) > 1
    assert "missing" in next(iter(verify.of_published(published, {"leaderboard.new": b""})))


def test_a_new_record_makes_the_published_table_stale(published: Path, capsys: pytest.CaptureFixture) -> None:
    made = answered.run(published, "linear", 0.35)
    assert verify.check(load(published)) == 1
    text = capsys.readouterr().out
    assert "leaderboard.md: differs" in text and "3 records" in text
    for path in store.folder(published, made.task, made.model).glob(f"{made.run_id}*"):
        path.unlink()


def test_a_broken_record_costs_its_own_cell_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    answered.run(tmp_path, "transformer", 0.4)
    made = answered.run(tmp_path, "linear", 0.3)
    (store.folder(tmp_path, made.task, made.model) / f"{made.run_id}.json").write_text("{")
    assert verify.check(load(tmp_path)) == 1
    text = capsys.readouterr().out
    assert f"{made.run_id}.json: not a record" in text and "leaderboard.md: missing" in text and "2 records" in text


def test_each_record_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered.run(tmp_path, "transformer", 0.4)
    answered.run(tmp_path, "linear", 0.3)
    monkeypatch.setattr(style, "DPI", 30)
    seen: list[str] = []
    read = content.content
    for module in (sheet, answers):
        monkeypatch.setattr(module, "content", lambda path, most: seen.append(str(path)) or read(path, most))
    verify.check(load(tmp_path))
    assert len(seen) == len(set(seen)) == 4


def test_a_record_astray_is_told(tmp_path: Path) -> None:
    made = answered.run(tmp_path, "linear", 0.3)
    path = store.folder(tmp_path, made.task, made.model) / f"{made.run_id}.json"
    (tmp_path / "runs" / "copy.json").write_bytes(path.read_bytes())
    (tmp_path / "runs" / "other.json").write_text("[")
    lines = dict(verify.strays(load(tmp_path)))
    assert lines["runs/copy.json"] == f"says it is runs/listops/linear/{made.run_id}.json"
    assert "not a record" in lines["runs/other.json"]
