"""Where a mutant can be made: every place that an operator finds, less what is no behaviour."""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import parso

from tests.mutate.operators import OURS, Place, by_cosmic_ray, differs, edited, nodes, theirs

# Calls that tell a person something: no number and no answer depends on them.
TELLS = {"print", "warn", "debug", "info", "warning", "error", "exception", "add_argument", "add_parser", "say"}


@dataclass
class Site:
    """A place and a family of operators, with the ways to change it."""

    file: str
    family: str
    start: Place
    text: str  # the line, stripped
    nth: int  # among the sites of this family on lines of this text in this file
    ways: list[Any] = field(repr=False)  # functions that give the mutated source, or None

    def rank(self, seed: int) -> str:
        """Where it stands in the draw: of the line's text alone, whatever is edited elsewhere."""
        return digest(seed, self.file, self.family, self.text, self.nth)


@dataclass(frozen=True)
class Mutant:
    id: str
    file: str
    line: int
    operator: str
    was: str  # the first line that differs, stripped
    becomes: str
    source: str = field(repr=False)
    diff: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is called by whatever its line number: an argument about it holds as long as its line stands."""
        return self.file, self.operator, self.was, self.becomes


def digest(*parts: Any) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


# What cosmic-ray's operators look at, by family: the type of a node or, of a keyword and an operator, its text.
LOOKS = {
    "binary operator": {"+", "-", "*", "/", "//", "%", "**", "<<", ">>", "|", "&", "^", "@"},
    "comparison": {"comparison"},
    "unary operator": {"factor", "not_test"},
    "constant": {"number"},
    "not": {"if_stmt", "while_stmt", "test", "ternary"},
    "boolean": {"True", "False"},
    "and or": {"and", "or"},
    "break continue": {"break", "continue"},
    "exception": {"except_clause"},
    "decorator": {"decorator", "decorated"},
    "empty loop": {"for_stmt"},
}


@cache
def looking_at(kind: str) -> list[tuple[str, type]]:
    return [(family, operator) for family, all_ in theirs().items() if kind in LOOKS[family] for operator in all_]


def ways(source: str, number: int, node: Any) -> Iterator[tuple[str, Place, Any]]:
    """Of one node: family, place, and a function that gives the mutated source."""
    for family, operator in looking_at(node.value if node.type in ("operator", "keyword") else node.type):
        try:
            places = list(operator().mutation_positions(node))
        except (AttributeError, IndexError):  # `except a.B:` is a form that cosmic-ray does not know
            continue
        for index, (start, _) in enumerate(places):
            yield family, start, partial(by_cosmic_ray, source, number, operator, index)
    for family, edits in OURS.items():
        for edit in edits(node):
            yield family, edit[0], partial(edited, source, edit)


def sites(file: str, source: str) -> list[Site]:
    """All of a file, in the order of its text."""
    found: dict[tuple[str, Place], list[Any]] = {}
    spared = idle(source)
    for number, node in enumerate(nodes(parso.parse(source))):
        if not hasattr(node, "parent") or node.parent is None:
            continue
        for family, start, way in ways(source, number, node):
            if not any(low <= start < high for low, high in spared):
                found.setdefault((family, start), []).append(way)
    lines, seen, out = source.splitlines(), Counter(), []
    for (family, start), made in found.items():
        text = lines[start[0] - 1].strip()
        out.append(Site(file, family, start, text, seen[family, text], made))
        seen[family, text] += 1
    return out


def idle(source: str) -> list[tuple[Place, Place]]:
    """Spans that are no behaviour: docstrings, annotations, what is for types alone, what only tells a person."""
    out = []

    def spare(node: ast.AST | None) -> None:
        if node is not None:
            out.append(((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)))

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            spare(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            spare(node.returns)
        elif isinstance(node, ast.If) and any(w in ast.unparse(node.test) for w in ("TYPE_CHECKING", "'__main__'")):
            spare(node.test)
            if "TYPE_CHECKING" in ast.unparse(node.test):
                spare(node)
        elif isinstance(node, ast.Assert | ast.Import | ast.ImportFrom) or no_behaviour(node):
            spare(node)
    return out


def no_behaviour(node: ast.AST) -> bool:
    """A call that tells, a string by itself, a list of public names."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).split(".")[-1] in TELLS
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def made(site: Site, source: str, seed: int) -> Mutant | None:
    """One of a site's mutants, chosen by the seed; None where none of them is another program."""
    order = sorted(range(len(site.ways)), key=lambda i: digest(site.rank(seed), i))
    for i in order:
        mutant = site.ways[i]()
        if differs(source, mutant):
            return described(site, source, mutant)
    return None


def described(site: Site, source: str, mutant: str) -> Mutant:
    before, after = source.splitlines(), mutant.splitlines()
    diff = list(difflib.unified_diff(before, after, site.file, site.file, lineterm="", n=0))
    removed = [line[1:].strip() for line in diff[2:] if line.startswith("-")]
    added = [line[1:].strip() for line in diff[2:] if line.startswith("+")]
    was, becomes = (next(filter(None, lines), "") for lines in (removed, added))
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(after))
    ident = digest(site.file, site.family, site.text, site.nth, was, becomes)[:10]
    return Mutant(ident, site.file, first + 1, site.family, was, becomes, mutant, "\n".join(diff))
