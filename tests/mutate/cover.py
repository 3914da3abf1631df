"""Which tests reach a line, and which of them to run first."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.mutate.tree import Overstepped, Tree

FILE_LIMIT = 1200.0  # seconds for one file of tests, once
BUDGET = 120.0  # seconds of tests that a mutant is worth, as they took under coverage
QUICK = 1.0


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def test_files(root: Path) -> list[str]:
    found = (p.relative_to(root).as_posix() for p in sorted((root / "tests").rglob("test_*.py")))
    return [name for name in found if name != "tests/test_mutate.py"]


def measured(tree: Tree, folder: Path, say: Callable[[str], None], files: Iterable[str]) -> dict[str, Any]:
    """file of tests -> what it reaches; from `folder` where neither it nor what it reaches has changed since."""
    folder.mkdir(parents=True, exist_ok=True)
    out = {}
    for file in files:
        kept = folder / (file.replace("/", "-") + ".json")
        if not fresh(kept, tree.path, file):
            say(f"which lines {file} reaches")
            raw = tree.path / "raw.json"
            raw.unlink(missing_ok=True)
            try:
                for _ in tree.ask({"kind": "cover", "file": file, "out": str(raw)}, lambda event: FILE_LIMIT):
                    pass
                found = json.loads(raw.read_text())
            except (Overstepped, FileNotFoundError):
                say(f"{file} is left out: no end within {FILE_LIMIT:.0f} s, or none that says what it reaches")
                found = {"seconds": {}, "failed": [file], "lines": {}}
            found["of"] = {name: sha(tree.path / name) for name in [file, *found["lines"]]}
            kept.write_text(json.dumps(found))
            for part in tree.path.glob("raw.parts/*"):
                part.unlink()
        out[file] = json.loads(kept.read_text())
    return out


def fresh(kept: Path, root: Path, file: str) -> bool:
    if not kept.exists():
        return False
    return all(sha(root / name) == was for name, was in json.loads(kept.read_text())["of"].items())


def span(source: str, line: int) -> tuple[range, bool]:
    """The lines of the statement at a line (of a compound one its head), and whether it stands in a function."""
    best, inside = None, False
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= node.end_lineno:
            continue
        body = getattr(node, "body", None)
        head = range(node.lineno, body[0].lineno if body else node.end_lineno + 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and line not in head and line >= node.lineno:
            inside = True
        if line in head and (best is None or len(head) <= len(best)):
            best = head
    return best or range(line, line + 1), inside


def function_lines(source: str) -> set[int]:
    """The lines that run when something is called, not when the file is imported."""
    out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            out.update(range(node.body[0].lineno, node.end_lineno + 1))
    return out


def reaching(found: dict[str, Any], file: str, source: str, line: int) -> dict[str, float]:
    """test -> seconds, of all that reach the line; of the file's others where it cannot be told by the line.

    A line that runs at import, or is compiled, is followed by no coverage: there it is the tests that run anything
    in the file, and failing that those whose files import it.
    """
    lines, inside = span(source, line)
    wanted = set(lines) if inside else function_lines(source)
    for these in (wanted, function_lines(source), set(range(1, len(source.splitlines()) + 1))):
        out = {}
        for of_tests, what in found.items():
            names = {n for n, reached in what["lines"].get(file, {}).items() if these & set(reached)}
            whole = bool(names & {"", of_tests})
            out |= {name: s for name, s in what["seconds"].items() if whole or name in names}
        if out:
            return out
    return {}


def mirrored(file: str) -> str:
    """Where the tests of a file lie by name: tests/<room>/ for lra/<room>/, tests/models/ for models/."""
    parts = file.removesuffix(".py").split("/")
    parts = parts[1:] if parts[0] == "lra" else parts[:1]
    return f"tests/{parts[0]}/" if len(parts) > 1 or parts[0] in ("models", "tasks") else f"tests/test_{parts[0]}"


def ordered(tests: dict[str, float], file: str) -> list[str]:
    """The quick ones first, the room's own before others, those of one file together; as many as the budget holds."""
    own = mirrored(file)
    stem = Path(file).stem
    total: dict[str, float] = {}
    for name, seconds in tests.items():
        total[name.split("::")[0]] = total.get(name.split("::")[0], 0.0) + seconds

    def key(name: str) -> tuple:
        of = name.split("::")[0]
        nearest = Path(of).stem != f"test_{stem}"
        return tests[name] > QUICK, not of.startswith(own), nearest, total[of], of, tests[name]

    out, spent = [], 0.0
    for name in sorted(tests, key=key):
        spent += tests[name]
        if out and spent > BUDGET:
            break
        out.append(name)
    return out
