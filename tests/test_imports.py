"""The architecture, read from the code: no circle, arrows that go down, rooms of a size one can hold."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.help.arrows import FLOORS, ISLANDS, Arrow, arrows, circles, modules, nodes, room, upward
from tests.help.tiny import ROOT

pytestmark = pytest.mark.xdist_group("imports")  # one process parses all that there is, once
FILE, FUNCTION = 350, 60  # lines at most
COMPILED = {"lra.tasks.pathfinder.generator"}  # numba sees a whole function, and what it calls, in one file


def test_what_is_grouped_is_one_workers(request: pytest.FixtureRequest) -> None:
    """Else each worker parses all that there is, and every group of the suite is made anew in each, without a word."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("one process: nothing to divide")
    assert request.node.nodeid.endswith("@imports")


def test_there_is_no_circle() -> None:
    assert circles(arrows(ROOT)) == []


def test_arrows_go_down() -> None:
    known = {name for floor in FLOORS for name in floor}
    assert {room(m) for m in modules(ROOT)} <= known | set(ISLANDS)
    assert upward(arrows(ROOT)) == []


CIRCLES = {
    "inside a function": ("lra/record/store.py", "\ndef f():\n    from lra.record import answers\n",
                          "lra/record/answers.py", "\ndef f():\n    from lra.record import store\n"),
    "for types alone": ("lra/machine/pace.py", "\nif TYPE_CHECKING:\n    from lra.machine import watch\n",
                        "lra/machine/watch.py", "\nfrom lra.machine import pace\n"),
}  # fmt: skip
UPWARD = {
    ("lra.record.store", "lra.sweep.job"): ("lra/record/store.py", "\nfrom lra.sweep import job\n"),
    ("lra.train.fit", "lra.measure.alone"): ("lra/train/fit.py",
                                             "\nx = importlib.import_module('lra.measure.alone')\n"),
    ("lra.record.store", "lra.plot"): ("lra/record/store.py", "\nx = [sys.executable, '-m', 'lra.plot']\n"),
    ("lra.tasks.base", "lra.errors"): ("tasks/base.py", "\nfrom lra.errors import UserError\n"),
    ("lra.models.transformer", "lra.tasks.base"): ("models/transformer.py", "\nfrom lra.tasks.base import Task\n"),
    ("lra.train.fit", "lra.models.transformer"): ("lra/train/fit.py",
                                                  "\nfrom lra.models.transformer import FullAttention\n"),
}  # fmt: skip


def planted(folder: Path, *parts: str) -> list[Arrow]:
    """The arrows among the files that are named, as they stand here with something more written into them."""
    for path, text in zip(parts[::2], parts[1::2], strict=True):
        there = folder / path
        there.parent.mkdir(parents=True, exist_ok=True)
        before = there if there.exists() else ROOT / path
        there.write_text(before.read_text() + text)
    return arrows(ROOT, modules(ROOT) | {called(path): folder / path for path in parts[::2]})


def called(path: str) -> str:
    name = path.removesuffix(".py").replace("/", ".")
    return name if name.startswith("lra.") else f"lra.{name}"


def test_the_guard_sees_what_goes_up(tmp_path: Path) -> None:
    """What was not there before, which the two tests above say of the checkout."""
    found = upward(planted(tmp_path, *(part for parts in UPWARD.values() for part in parts)))
    assert {(a.source, a.target) for a in found} == set(UPWARD)


@pytest.mark.parametrize("what", CIRCLES)
def test_the_guard_sees_a_circle(what: str, tmp_path: Path) -> None:
    assert circles(planted(tmp_path, *CIRCLES[what])) == [sorted(map(called, CIRCLES[what][::2]))]


def test_the_guard_sees_a_yaml_that_closes_a_circle(tmp_path: Path) -> None:
    """What a YAML names counts as known to the command line, which nothing may know."""
    (tmp_path / "lra" / "record").mkdir(parents=True)
    (tmp_path / "configs" / "task").mkdir(parents=True)
    (tmp_path / "lra" / "__init__.py").write_text("")
    (tmp_path / "lra" / "record" / "__init__.py").write_text("")
    (tmp_path / "lra" / "__main__.py").write_text("from lra import record\n")
    (tmp_path / "configs" / "task" / "x.yaml").write_text("task:\n  _target_: lra.__main__.Task\n")
    assert [(a.source, a.target) for a in upward(arrows(tmp_path))] == []
    (tmp_path / "configs" / "task" / "x.yaml").write_text("task:\n  _target_: lra.Task\n")
    assert [(a.source, a.target) for a in upward(arrows(tmp_path))] == [("configs/task/x.yaml", "lra")]


def test_no_room_is_too_large_to_hold() -> None:
    """Files and functions; a model is one file, and what is compiled cannot be cut."""
    long_files, long_functions = [], []
    for name, path in modules(ROOT).items():
        if name in COMPILED:
            continue
        if not name.startswith("lra.models.") and len(path.read_text().splitlines()) > FILE:
            long_files.append(name)
        for node in nodes(path):
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if function and node.end_lineno - node.lineno + 1 > FUNCTION and not name.startswith("lra.models."):
                long_functions.append(f"{name}.{node.name}")
    assert (long_files, long_functions) == ([], [])


def test_settings_keep_their_type_below_the_composing_room() -> None:
    """No `cfg: Any`, and nothing that is dressed up as settings."""
    wrong = []
    for name, path in modules(ROOT).items():
        for node in nodes(path):
            named = isinstance(node, ast.arg) and node.arg in ("cfg", "settings") and node.annotation is not None
            if named and ast.unparse(node.annotation) == "Any" and name not in COMPOSING:
                wrong.append(f"{name}:{node.lineno} {node.arg}: Any")
            if isinstance(node, ast.Name) and node.id == "SimpleNamespace":
                wrong.append(f"{name}:{node.lineno} SimpleNamespace")
    assert wrong == []


COMPOSING = {"lra.__main__", "lra.settings.compose", "lra.sweep.job"}  # where Hydra's own configuration is read


def modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(json.loads(out.stdout.splitlines()[-1]))


def test_importing_lra_is_light() -> None:
    heavy = {"torch", "datasets", "wandb", "pandas", "numpy", "hydra"}
    assert not modules_after("import lra") & heavy
    assert not modules_after("import lra, lra.__main__, lra.settings.schema") & {"torch", "datasets", "wandb", "pandas"}


def test_tables_and_charts_need_no_torch() -> None:
    code = "import lra.leaderboard.__main__, lra.plot.__main__, lra.cost.__main__, lra.results"
    assert not modules_after(code) & {"torch", "datasets", "wandb"}
