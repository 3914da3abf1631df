"""How far a sweep has come, the same from every terminal: from a file in its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lra.machine.alive import me
from lra.runner.keeper import GOING, Watch
from lra.settings.schema import Run
from lra.sweep import __main__ as door
from lra.sweep import overview
from lra.sweep.job import Job, Row
from lra.sweep.overview import Overview, ended, status

LABELS = ["listops linear s0", "listops local s0", "text linear s0", "text local s0"]


def row(label: str, **values: object) -> Row:
    return Row(Job((), None, "listops", "linear", 0, label), **values)


def going(label: str, step: int, steps: int) -> Watch:
    messages = [
        {"phase": "train", "steps": steps, "draft": {"accuracy_valid": 0.25}},
        {"beat": {"step": step}},
    ]
    tree = SimpleNamespace(channel=SimpleNamespace(waiting=lambda: messages))
    watch = Watch(tree, Run(), label=label)
    watch.listen()
    return watch


def test_a_sweep_is_seen_as_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = going(LABELS[1], 100, 400)
    now = [watch.first[0] + 10.0]
    monkeypatch.setattr(watch.bounds, "now", lambda: now[0])
    watch.step = 200
    with Overview(tmp_path, LABELS) as seen, GOING.with_it(watch):
        seen.begin(1)
        seen.end(1, row(LABELS[0], status="failed", reason="RuntimeError: x"))
        seen.begin(2)
        seen.begin(3)
        seen.end(3, None)  # somebody else does it
        seen.write()
        lines = [" ".join(line.split()) for line in status(tmp_path).splitlines()]
        assert "listops linear s0 failed -" in lines
        assert "listops local s0 running 200/400 25.00 % 20 s left" in lines
        assert lines.count("text linear s0 waiting -") == lines.count("text local s0 waiting -") == 1
        assert "listops linear s0: failed: RuntimeError: x" in lines
        assert lines[-1].startswith("4 runs: 1 failed, 1 running, 2 waiting; heard of 0 s ago")
        seen.found = {2: row(LABELS[1], status="ok", accuracy=0.5)}
        seen.write()
        assert "listops local s0 ok 200/400 50.00 %" in [" ".join(x.split()) for x in status(tmp_path).splitlines()]
    assert status(tmp_path) == f"no sweep goes on in {tmp_path}, and nothing was stopped"


def test_it_is_written_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "EVERY", 0.05)
    with Overview(tmp_path, LABELS) as seen:
        seen.begin(4)
        for _ in range(200):
            if json.loads(seen.path.read_text())["lines"][3]["status"] == "running":
                break
            seen.over.wait(0.05)
        else:
            pytest.fail("it was not")
        assert json.loads(seen.path.read_text())["owner"] == me()


def test_of_one_that_was_cut_off_nothing_runs(tmp_path: Path) -> None:
    seen = Overview(tmp_path, LABELS)
    seen.begin(1)
    seen.write()
    said = json.loads(seen.path.read_text())
    seen.path.write_text(json.dumps(said | {"owner": me() | {"pid": 2**22 + 5}}))
    assert "1 interrupted, 3 waiting; its process has ended" in status(tmp_path)
    seen.path.write_text(json.dumps(said | {"owner": me() | {"host": "another"}}))
    assert "1 running, 3 waiting; heard of" in status(tmp_path)


BAD = '{"lines": [{"label": "a", "status": "ok", "reason": null, "step": "many"}], "owner": {}}'


@pytest.mark.parametrize(
    "text", ["", "{}", '{"lines": [{"a": 1}], "owner": {}}', '{"lines": [], "owner": 1}', "[1]", BAD]
)
def test_a_file_that_holds_no_sweep_is_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "x.json").write_text(text)
    assert len(status(tmp_path).splitlines()) == 1


def test_what_a_terminal_obeys_is_not_shown(tmp_path: Path) -> None:
    seen = Overview(tmp_path, ["a\x1b[2Jb"])
    seen.end(1, row("a", status="fai\nled", reason="\x1b[31m"))
    seen.write()
    assert "\x1b" not in status(tmp_path) and "fai led" in status(tmp_path)


def test_a_folder_that_cannot_be_written_costs_the_overview_alone(tmp_path: Path) -> None:
    (tmp_path / "sweeps").write_text("")
    with Overview(tmp_path, LABELS) as seen:
        seen.begin(1)
        seen.write()


def test_the_time_left_is_not_known_at_first() -> None:
    watch = going(LABELS[0], 10, 100)
    assert watch.seconds_left() is None
    assert Watch(SimpleNamespace(), Run()).seconds_left() is None


def test_the_line_of_a_run_that_is_over() -> None:
    assert ended("[1/2] a", row("a", status="ok", accuracy=0.5, seconds=30.0)) == "[1/2] a: ok, 50.00 %, 30 s"
    assert ended("[1/2] a", row("a", status="failed", reason="x", seconds=30.0)) == "[1/2] a: failed, x, 30 s"


def test_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["lra.sweep", "status", f"results_dir={tmp_path}"])
    assert door.main() == 0 and capsys.readouterr().out.startswith("no sweep goes on")
    monkeypatch.setattr("sys.argv", ["lra.sweep", "states"])
    with pytest.raises(door.UserError, match="'states' is not one of status. Did you mean status?"):
        door.main()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
