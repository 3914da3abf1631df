"""The arrows of the architecture, read from the import statements."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("lra", "tasks", "models")
FORBIDDEN = {"tasks": {"models", "lra"}, "models": {"tasks", "lra"}, "lra": set()}


def imported(path: Path) -> set[str]:
    """Top-level packages imported anywhere in a file, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_arrows(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        wrong = imported(path) & FORBIDDEN[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_lra_names_no_concrete_task_or_model() -> None:
    """Names live in configs/: lra may know tasks.base and tasks.store, and no task or model module."""
    allowed = {"tasks.base", "tasks.store"}
    for path in (ROOT / "lra").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("tasks", "models"):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                assert node.module in allowed or whole <= allowed, f"{path.name} imports {whole}"


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
    assert not modules_after("import lra, lra.__main__, lra.settings") & {"torch", "datasets", "wandb", "pandas"}


def test_tables_and_charts_need_no_torch() -> None:
    doors = "import lra.leaderboard.__main__, lra.leaderboard.files, lra.plot.render"
    assert not modules_after(doors) & {"torch", "datasets", "wandb"}
