"""The arrows of the architecture: who imports whom, however it is said.

Counted are import statements anywhere (in functions, under TYPE_CHECKING), importlib and __import__ with a
name that is written out, `-m lra.x` among the words of a command, and `_target_: lra.x` in a YAML.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# Top down: a room imports lower ones only. `tasks` and `models` import themselves alone.
FLOORS = (
    ("__init__",),
    ("__main__", "leaderboard"),
    ("plot", "tune", "compare", "search"),
    ("sweep", "repeat"),
    ("treat",),
    ("results", "runner"),
    ("check",),
    ("measure", "ceilings", "ledger", "cost"),
    ("treatments", "floors", "marks", "list", "cite", "complete"),
    ("record", "train", "data"),
    ("settings", "machine"),
    ("errors", "console", "names", "uncompiled"),
    ("root",),
)
ISLANDS = ("tasks", "models")
DOORS = {  # what others may know of an island
    "tasks": {f"lra.tasks.{name}" for name in ("base", "store", "files", "png")},
    "models": {"lra.models.parts.chance"},
}
# Processes that are started, which is no import: by whom, and what runs in them.
PROCESSES = {
    ("lra.measure.session", "lra.measure.child"),
    ("lra.check.contract", "lra.check"),
    ("lra.ceilings", "lra.ceilings"),
    ("lra.runner.keeper", "lra.runner.child"),
    ("lra.runner.elsewhere", "lra"),
    ("lra.sweep.callbacks", "lra.plot"),
    ("lra.treat.derive", "lra.treat.child"),
    ("lra.search.bench", "lra.search.child"),
}


class Arrow(NamedTuple):
    source: str  # dotted module, or a YAML's path below configs/
    target: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its name as it is imported."""
    found = {}
    for room in ("lra", *ISLANDS):
        for path in sorted((root / room).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts if room == "lra" else ("lra", *parts)).removesuffix(".__init__")
            found[name] = path
    return found


def arrows(root: Path, known: dict[str, Path] | None = None) -> list[Arrow]:
    """known: the modules, where they do not all lie below `root`."""
    known = modules(root) if known is None else known
    out = [a for name, path in known.items() for a in _of_module(name, path, known)]
    for path in sorted((root / "configs").rglob("*.yaml")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for target in re.findall(r"_target_:\s*['\"]?([\w.]+)", line.split("#")[0]):
                if target.split(".")[0] == "lra":
                    module = _nearest(target, known)
                    out.append(Arrow(f"configs/{path.relative_to(root / 'configs')}", module, number))
    return out


def _of_module(name: str, path: Path, known: dict[str, Path]) -> Iterator[Arrow]:
    for target, line, listed in _said(name, path):
        found = _nearest(target, known) if target.split(".")[0] == "lra" else name
        process = listed and (name, found) in PROCESSES
        if found != name and not process:
            yield Arrow(name, found, line)


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's. Read once: no file is edited meanwhile, and to parse them all takes seconds."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def _said(name: str, path: Path) -> tuple[tuple[str, int, bool], ...]:
    """(name of a module, line, whether in a list) of all that a file names."""
    return tuple(
        (target, node.lineno, isinstance(node, ast.List)) for node in nodes(path) for target in _named(node, name, path)
    )


def _named(node: ast.AST, name: str, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).rsplit(".", 1)[-1]
        if called in ("import_module", "__import__", "find_spec", "run_module") and isinstance(node.args[0].value, str):
            yield node.args[0].value
    elif isinstance(node, (ast.List, ast.Tuple)):
        words = [e.value if isinstance(e, ast.Constant) else None for e in node.elts]
        for flag, word in pairwise(words):
            if flag == "-m" and isinstance(word, str):
                yield word


def _nearest(target: str, known: dict[str, Path]) -> str:
    """The module that a dotted name lies in."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target


def room(module: str) -> str:
    if module.startswith("configs/"):
        return "__main__"  # what a YAML names is reached from the command line
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def upward(found: list[Arrow]) -> list[Arrow]:
    """Arrows that do not go down a floor, out of an island, or into one but by its door."""
    level = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    wrong = []
    for arrow in found:
        source, target = room(arrow.source), room(arrow.target)
        if source == target:
            continue
        if target in ISLANDS:
            through = arrow.source.startswith("configs/") or arrow.target in DOORS.get(target, set())
            bad = source in ISLANDS or not (through or (arrow.target == "lra.tasks" and source not in ISLANDS))
        else:
            bad = source in ISLANDS or level[source] >= level[target]
        if bad:
            wrong.append(arrow)
    return wrong


def circles(found: list[Arrow]) -> list[list[str]]:
    """Modules that reach themselves, as strongly connected parts (Tarjan 1972)."""
    edges: dict[str, set[str]] = {}
    for arrow in found:
        edges.setdefault(arrow.source, set()).add(arrow.target)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in sorted(edges.get(v, ())):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            part = [stack.pop()]
            while part[-1] != v:
                part.append(stack.pop())
            if len(part) > 1:
                out.append(sorted(part))

    for v in sorted(edges):
        if v not in index:
            visit(v)
    return out
