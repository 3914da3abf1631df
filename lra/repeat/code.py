"""The code that a record was made with: what of it computes otherwise now, and a checkout of it."""

from __future__ import annotations

import ast
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lra.errors import UserError
from lra.names import resolved
from lra.record.record import Record
from lra.root import ROOT
from lra.settings.sources import targets

# From the data to the score, of every run; of the rest a run has what its configuration names.
COMPUTES = (
    "lra/train", "lra/treatments", "lra/floors.py", "lra/runner/phases.py", "lra/runner/score.py",
    "lra/machine/device.py", "lra/settings/build.py", "lra/settings/schema.py", "configs/config.yaml",
)  # fmt: skip
ISLANDS = ("tasks", "models")
MOST = 4  # files that are named


def git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def changed(record: Record) -> list[str] | None:
    """Files that compute and are not as they were in the record's commit; null where that cannot be told."""
    if record.commit is None or not (ROOT / ".git").exists():
        return None
    try:
        git("cat-file", "-e", f"{record.commit}^{{commit}}")
        return git("diff", "--name-only", record.commit, "--", *COMPUTES, *_own(record)).split()
    except (OSError, subprocess.SubprocessError):
        return None


def _own(record: Record) -> list[str]:
    """Files of ours that the record's configuration names: its YAML, its classes, and what those import."""
    task, model, budget = record.task, record.model, record.budget
    found = {f"configs/task/{task}.yaml", f"configs/model/{model}.yaml", f"configs/budget/{budget}.yaml"}
    found |= {f"configs/pair/{task}-{model}.yaml", f"configs/scale/{budget}/{task}.yaml", f"configs/recipe/{budget}"}
    nodes = (record.config.get(part) or {} for part in ("task", "model", "treatment"))
    waiting = [resolved(target).rpartition(".")[0] for node in nodes for target in targets(node)]
    while waiting:
        path = ROOT.joinpath(*waiting.pop().removeprefix("lra.").split("."))
        name = next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
        said = None if name is None else name.relative_to(ROOT).as_posix()
        if said is not None and said.split("/")[0] in ISLANDS and said not in found:
            found.add(said)
            waiting += _imported(name.read_text())
    return sorted(found)


def _imported(text: str) -> Iterator[str]:
    """Modules, and names in them, which may be modules too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def shown(files: Sequence[str]) -> str:
    more = f" and {len(files) - MOST} more" if len(files) > MOST else ""
    return f"{', '.join(files[:MOST])}{more}"


@contextmanager
def of(record: Record, wanted: bool) -> Iterator[dict[str, str] | None]:
    """The environment in which `python -m lra` is that of the record's commit; null where it is not wanted."""
    if not wanted:
        yield None
        return
    if record.commit is None:
        raise UserError(f"--at-commit: {record.run_id} names no commit")
    with tempfile.TemporaryDirectory(prefix="lra-commit-") as scratch:
        place = Path(scratch) / "code"
        try:
            git("worktree", "add", "--detach", str(place), record.commit)
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"--at-commit: {record.commit} cannot be had from the repository of {ROOT}") from error
        try:
            path = [str(place), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
            # What is started must not take what lies where it is started for that code.
            yield os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
        finally:
            git("worktree", "remove", "--force", str(place))
