"""A damaged record costs its own cell, with one line, wherever records are read: no table, no chart, no traceback."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra import errors
from lra.cost import __main__ as cost
from lra.leaderboard import __main__ as leaderboard
from lra.plot import __main__ as plot
from lra.plot import style
from lra.record import record, sheet, store
from lra.results import Results, load
from tests.help import answered, made, synthetic, tiny

pytestmark = pytest.mark.xdist_group("damaged")
HUGE = 10**400
Harm = Callable[[Path], None]


def fields(**values: Any) -> Harm:
    """Other values in the record, with a digest that fits them: not an edit but a record made wrongly."""

    def harm(path: Path) -> None:
        raw = json.loads(path.read_text()) | values
        with contextlib.suppress(ValueError):
            raw["digest"] = record.digest_of(raw)
        path.write_text(json.dumps(raw))

    return harm


def inside(name: str, /, **values: Any) -> Harm:
    """Other values inside one of its mappings."""

    def harm(path: Path) -> None:
        fields(**{name: (json.loads(path.read_text())[name] or {}) | values})(path)

    return harm


def text(content: str | bytes) -> Harm:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content) and None


def replaced(old: str, new: str) -> Harm:
    def harm(path: Path) -> None:
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))

    return harm


def instead(make: Callable[[Path], None]) -> Harm:
    """Something else than a file in its place."""

    def harm(path: Path) -> None:
        path.unlink()
        make(path)

    return harm


TIMES = {"seconds_median": 1.0, "seconds_iqr": 0.1, "seconds": [1.0, 1.0]}
# what is wrong: (how a record comes to it, what its line says)
DAMAGED: dict[str, tuple[Harm, str]] = {
    "empty": (text(""), "not a record"),
    "truncated": (text('{"schema": 2, "status": '), "not a record"),
    "no JSON": (text("results"), "not a record"),
    "bytes": (text(b"\xff\xfe\x00"), "not a record"),
    "zero bytes": (text(b"\x00" * 100), "not a record"),
    "a byte order mark": (text(b"\xef\xbb\xbf{}"), "not a record"),
    "a list": (text("[]"), "no schema or status"),
    "a number": (text("7"), "no schema or status"),
    "null": (text("null"), "no schema or status"),
    "nested deeply": (text("[" * 100_000), "not a record"),
    "a long number": (text('{"schema": 2, "status": "ok", "seed": ' + "9" * 5000 + "}"), "not a record"),
    "NaN": (replaced('"loss_test": null', '"loss_test": NaN'), "NaN is no number"),
    "Infinity": (replaced('"loss_test": null', '"loss_test": -Infinity'), "-Infinity is no number"),
    "1e999": (replaced('"loss_test": null', '"loss_test": 1e999'), "loss_test Infinity; allowed float"),
    "a huge loss": (fields(loss_test=HUGE), "loss_test"),
    "a huge seed": (fields(seed=HUGE), "seed"),
    "seed [0]": (fields(seed=[0]), "seed [0]; allowed int"),
    "seed true": (fields(seed=True), "seed true; allowed int"),
    "seed 0.5": (fields(seed=0.5), "seed 0.5; allowed int"),
    "schema 99": (fields(schema=99), f"schema 99; allowed 1 to {record.SCHEMA}"),
    "schema true": (fields(schema=True), "schema true"),
    "schema null": (fields(schema=None), "schema null"),
    "status fine": (fields(status="fine"), 'status "fine"; allowed ok, oom'),
    "status []": (fields(status=[]), "status []"),
    "kind {}": (fields(kind={}), "kind {}; allowed model, floor, cost"),
    "another field": (fields(colour="red"), "unknown fields colour"),
    "cost null": (fields(cost=None), "cost null; allowed Mapping"),
    "cost []": (fields(cost=[]), "cost []; allowed Mapping"),
    "cost.train 5": (fields(cost={"status": "ok", "train": 5}), "cost.train 5; allowed a mapping"),
    "cost.status []": (fields(cost={"status": []}), "cost.status []"),
    "a negative peak": (inside("cost", step_peak_bytes=-1), "cost.step_peak_bytes -1"),
    "no speed": (inside("cost", train={"examples_per_second": "fast"}), 'cost.train.examples_per_second "fast"'),
    "no time": (inside("cost", train=TIMES | {"seconds_median": 0}), "cost.train.seconds_median 0"),
    "too few paces": (inside("cost", train=TIMES | {"paces": [1.0]}), "cost.train.paces are 1"),
    "conditions 1": (inside("cost", conditions=1), "cost.conditions 1; allowed a mapping"),
    "ceilings": (inside("cost", ceilings={"copy_bytes_per_second": "x"}), 'cost.ceilings.copy_bytes_per_second "x"'),
    "machine null": (fields(machine=None), "machine null"),
    "machine.name []": (inside("machine", name=[]), "machine.name []"),
    "machine.name in two lines": (inside("machine", name="a\nb"), 'machine.name "a\\nb"'),
    "machine.threads": (inside("machine", threads="two"), 'machine.threads "two"'),
    "data null": (fields(data=None), "data null"),
    "data.fingerprint": (inside("data", fingerprint=[1]), "data.fingerprint [1]"),
    "training": (fields(training={"seconds": "long"}), 'training.seconds "long"'),
    "config null": (fields(config=None), "config null"),
    "config.exam": (fields(config={"exam": [1]}), "config.exam [1]; allowed a mapping"),
    "config.exam.order": (fields(config={"exam": {"order": "x"}}), 'config.exam.order "x"'),
    "config.exam.averages": (fields(config={"exam": {"averages": [[]]}}), "config.exam.averages [[]]"),
    "variant [1]": (fields(variant=[1]), "variant [1]; allowed list[str]"),
    "variant x": (fields(variant="x"), 'variant "x"; allowed list[str]'),
    "curve [1]": (fields(curve=[1]), "curve [1]; allowed list"),
    "curve.step": (fields(curve=[{"step": "x"}]), 'curve.step "x"'),
    "curve without a step": (fields(curve=[{}]), "without its step"),
    "curve.valid_accuracy": (fields(curve=[{"step": 1, "valid_accuracy": 7}]), "curve.valid_accuracy 7"),
    "accuracy 1.2": (fields(accuracy_test=1.2), "accuracy_test 1.2; allowed float: a fraction"),
    "accuracy {}": (fields(accuracy_test={}), "accuracy_test {}"),
    "no items": (fields(items_test=0), "items_test 0"),
    "parameters -5": (fields(parameters=-5), "parameters -5"),
    "model ..": (fields(model=".."), 'model ".."; allowed str: a name'),
    "model a/b": (fields(model="a/b"), 'model "a/b"'),
    "model empty": (fields(model=""), 'model ""'),
    "model long": (fields(model="m" * 300), "model"),
    "model null": (fields(model=None), "model null"),
    "model with an escape": (fields(model="\x1b[2J"), 'model "\\u001b[2J"'),
    "half a character": (fields(reason="\ud800"), 'reason "\\ud800"'),
    "task ../x": (fields(task="../x"), 'task "../x"'),
    "run_id {}": (fields(run_id={}), "run_id {}"),
    "budget []": (fields(budget=[]), "budget []"),
    "row null": (fields(row=None), "row null"),
    "dtype {}": (fields(dtype={}), "dtype {}"),
    "local yes": (fields(local="yes"), 'local "yes"; allowed bool'),
    "wall_seconds": (fields(wall_seconds={"total": "x"}), "wall_seconds"),
    "predictions []": (fields(predictions=[]), "predictions []"),
    "predictions without a file": (fields(predictions={"sha256": "x"}), "predictions.file is missing"),
    "predictions outside": (inside("predictions", file="../x.npz"), 'predictions.file "../x.npz"'),
    "predictions of a device": (inside("predictions", file="/dev/zero"), 'predictions.file "/dev/zero"'),
    "predictions 5": (inside("predictions", file=5), "predictions.file 5"),
    "a folder": (instead(Path.mkdir), "is no regular file"),
    "a pipe": (instead(os.mkfifo), "is no regular file"),
    "a link to a device": (instead(lambda p: p.symlink_to("/dev/zero")), "is a link"),
    "a link to nothing": (instead(lambda p: p.symlink_to("nowhere")), "is a link"),
    "too long a file": (lambda path: os.truncate(path, sheet.LARGEST + 1), "allowed at most 64 MiB"),
}  # fmt: skip


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def lying() -> bytes:
    """A header that promises eight terabytes of items, of which there are none."""
    buffer, promise = io.BytesIO(), {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(buffer, promise)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("predictions.npy", "labels.npy"):
            archive.writestr(name, buffer.getvalue())
    return out.getvalue()


def bomb() -> bytes:
    """Kilobytes that become gigabytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("predictions.npy", bytes(2**27))
    return out.getvalue()


ANSWERS: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "labels of -1": (npz(predictions=np.zeros(4, int), labels=np.array([-1, 0, 1, 1])), "labels -1 to 1"),
    "huge labels": (npz(predictions=np.zeros(1, int), labels=np.array([2**40])), "labels"),
    "fractions": (npz(predictions=np.zeros(4), labels=np.zeros(4)), "allowed whole numbers"),
    "two dimensions": (npz(predictions=np.zeros((2, 2), int), labels=np.zeros((2, 2), int)), "allowed whole numbers"),
    "objects": (npz(predictions=np.array([object()]), labels=np.zeros(1, int)), "predictions"),
    "other lengths": (npz(predictions=np.zeros(3, int), labels=np.zeros(4, int)), "allowed the same shape"),
    "no items": (npz(predictions=np.zeros(0, int), labels=np.zeros(0, int)), "allowed whole numbers"),
    "no predictions": (npz(labels=np.zeros(4, int)), "no predictions"),
    "a promise": (lying(), "allowed whole numbers"),
    "a bomb": (lambda path: path.write_bytes(bomb()) and None, "more than 64 MiB"),
    "no archive": (b"PK\x03\x04 and nothing else", "damaged"),
    "a folder": (Path.mkdir, "no regular file"),
    "a link": (lambda path: path.symlink_to("/dev/zero"), "is a link"),
    "too long": (lambda path: (path.touch(), os.truncate(path, 2**27)), "allowed at most 64 MiB"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on an exam and the costs of two."""
    folder = tmp_path_factory.mktemp("whole")
    answered.run(folder, "transformer", 0.5)
    return synthetic.costs(folder, models=2, longest=1024)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "results")


@pytest.fixture
def harmed(folder: Path) -> Path:
    """A record that is about to be."""
    run = answered.run(folder, "linear", 0.3)
    return store.folder(folder, run.task, run.model) / f"{run.run_id}.json"


def told(main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a door, as its process has it."""
    monkeypatch.setattr("sys.argv", ["lra", *words])
    with pytest.raises(SystemExit) as left:
        errors.guarded(main)
    return int(left.value.code)


@pytest.fixture(scope="module")
def damaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A folder with a damaged record of each kind beside whole ones."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "results")
    return folder, dict(every(folder))


@pytest.fixture(scope="module")
def of_damaged(damaged: tuple[Path, dict[str, Path]]) -> Results:
    return load(damaged[0])


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_record_is_one_line(damaged: tuple[Path, dict[str, Path]], of_damaged: Results, what: str) -> None:
    folder, paths = damaged
    [line] = [line for file, line in of_damaged.broken if file == paths[what].relative_to(folder).as_posix()]
    assert DAMAGED[what][1] in line and len(line.splitlines()) == 1 and len(line) < 250
    with pytest.raises(sheet.Damaged, match="json"):
        sheet.read(paths[what])


def test_damaged_records_cost_themselves_alone(of_damaged: Results) -> None:
    assert len(of_damaged.broken) == len(DAMAGED)
    assert of_damaged.cells.model.tolist() == ["transformer"] and len(of_damaged.points) > 4


def test_damaged_answers_cost_the_ranks_alone(folder: Path) -> None:
    expected = {}
    for number, (content, said) in enumerate(ANSWERS.values()):
        run = answered.run(folder, f"harmed_{number}", 0.3)
        path = store.folder(folder, run.task, run.model) / f"{run.run_id}.predictions.npz"
        path.unlink()
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        expected[path.relative_to(folder).as_posix()] = said
    found = load(folder)
    accuracy = found.cells.set_index("model").accuracy.to_dict()
    assert accuracy.pop("transformer") == 0.5 and len(accuracy) == len(ANSWERS) and set(accuracy.values()) == {0.3}
    broken = dict(found.broken)
    assert broken.keys() == expected.keys() and len(found.broken) == len(expected)
    for file, line in broken.items():
        assert expected[file] in line and len(line.splitlines()) == 1, line


def every(folder: Path) -> Iterator[tuple[str, Path]]:
    """A damaged record of each kind."""
    for number, (what, (harm, _)) in enumerate(DAMAGED.items()):
        run = answered.run(folder, f"harmed_{number}", 0.3)
        path = store.folder(folder, run.task, run.model) / f"{run.run_id}.json"
        harm(path)
        yield what, path


@pytest.mark.parametrize("door", ["leaderboard", "plot", "cost", "check"])
def test_every_door_shows_the_rest(
    damaged: tuple[Path, dict[str, Path]],
    door: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, paths = damaged
    monkeypatch.setattr(style, "DPI", 30)
    main = {"leaderboard": leaderboard.main, "plot": plot.main, "cost": cost.main, "check": leaderboard.main}[door]
    code = told(main, monkeypatch, f"results_dir={folder}", *(["--check"] if door == "check" else []))
    out = capsys.readouterr()
    assert code == (1 if door == "check" else 0)
    lines = (out.out if door == "check" else out.err).splitlines()
    for what, path in paths.items():
        assert len([line for line in lines if path.name in line]) == 1, what
    assert "Traceback" not in out.err and not any(c in out.out + out.err for c in "\x1b\x00\ud800")
    if door == "leaderboard":
        assert "transformer" in out.out and "harmed" not in (folder / "leaderboard.md").read_text()
    if door == "plot":
        assert list((folder / "figures").glob("cost-*.svg")) and list((folder / "figures").glob("bubble-*.svg"))


ODD = ["$x_{$", "a|b", "<b>", "%s", "{0}", "=1+1", "#1", "x [y](http:z)", "模型", "a b", "a_", "+x", "@me", "1. a"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_odd_names_are_names(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(style, "DPI", 30)  # what is looked at is the text of the other kind
    for name in ODD:
        answered.run(folder, name, 0.4)
        answered.run(folder, name, None, "text-512", reason="100 % $ of \\input{x}\n\x1b[2J")
    assert told(leaderboard.main, monkeypatch, f"results_dir={folder}") == 0
    assert told(plot.main, monkeypatch, f"results_dir={folder}") == 0
    out = capsys.readouterr()
    assert "\x1b" not in out.out and not out.err
    svg = next((folder / "figures").glob("accuracy-*.svg")).read_text()
    assert "$x_{$" in svg, "a name is not set as a formula"


def test_a_folder_of_damage_alone_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(list(every(tmp_path))) == len(DAMAGED) >= 50
    assert told(leaderboard.main, monkeypatch, f"results_dir={tmp_path}") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"(and {len(DAMAGED) - 1} more)" in line


def test_an_edit_is_marked_and_not_refused(folder: Path, harmed: Path) -> None:
    before = sheet.opened(harmed)
    replaced('"seed": 0', '"seed": 3')(harmed)
    assert not before.edited and sheet.opened(harmed).edited
    replaced('"config": {}', '"config": {"x": 1e999}')(harmed)
    assert sheet.opened(harmed).edited, "what is never written is an edit too"
    found = load(folder)
    assert found.broken == [] and [r for r in found.remarks() if harmed.name in r and "edited" in r]


def test_an_edited_cost_is_marked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(p for p in store.paths(folder, "text", "transformer") if sheet.read(p).length == 1024)
    replaced('"seed": 0', '"seed": 1')(path)
    assert told(leaderboard.main, monkeypatch, f"results_dir={folder}") == 0
    assert told(cost.main, monkeypatch, f"results_dir={folder}") == 0
    assert capsys.readouterr().err.count(path.name) == 2
    assert "its cost at length 1024: edited" in (folder / "leaderboard.md").read_text()


def test_whole_records_are_whole() -> None:
    for path in [*store.paths(tiny.ROOT / "results"), *(tiny.ROOT / "tests" / "records").glob("*.json")]:
        assert not sheet.opened(path).edited
    assert sheet.problem(json.loads(json.dumps(vars(made.example())))) is None


def test_only_the_sheet_reads_records() -> None:
    """Whatever else in lra/ reads JSON reads something else, and is named here with what that is."""
    others = {
        "lra/ceilings.py": "a child's answer",
        "lra/measure/gauges.py": "a count from a child",
        "lra/machine/channel.py": "messages between processes",
        "lra/record/reserve.py": "who a reserve belongs to",
        "lra/record/claim.py": "who does a run",
        "lra/record/unfinished.py": "a run without a record",
        "lra/check/contract.py": "a child's answer",
        "lra/sweep/overview.py": "what a sweep is doing",
        "lra/sweep/estimate.py": "estimates in the output folder",
        "lra/data": "notes beside data",
        "lra/search/shelf.py": "what a search has measured",
        "lra/record/store.py": "a record that is about to be written",
        "lra/record/sheet.py": "records",
    }
    for path in (tiny.ROOT / "lra").rglob("*.py"):
        name = path.relative_to(tiny.ROOT).as_posix()
        reads = any(
            isinstance(node, ast.Attribute) and node.attr in ("loads", "load", "JSONDecoder")
            and isinstance(node.value, ast.Name) and node.value.id == "json"
            for node in ast.walk(ast.parse(path.read_text()))
        )  # fmt: skip
        assert not reads or any(name.startswith(known) for known in others), f"{name} reads JSON"
