"""What can be done to a piece of code: cosmic-ray's operators, and those of ours that it lacks.

Cosmic-ray's: signs, comparisons, constants one off, booleans, `not`, break and continue, exceptions, decorators,
loops without a pass. Ours: a dropped call, swapped arguments, a bound one off, `in` for `not in`, min for max.
Left out is what fails wherever it is reached, and would make the sample look better than the tests: an operator on bits
for one on numbers, `is` for `<`, a module in place of what it is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import lru_cache

import parso
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    exception_replacer,
    number_replacer,
    remove_decorator,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from parso.tree import BaseNode, NodeOrLeaf

Place = tuple[int, int]  # line from 1, column from 0
Edit = tuple[Place, Place, str]  # from, to, what stands there then
OPPOSITES = {"min": "max", "any": "all", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "floor": "ceil"}
OPPOSITES |= {value: key for key, value in OPPOSITES.items()}
BITS = {"BitOr", "BitAnd", "BitXor", "LShift", "RShift"}
IDENTITY = {"Is", "IsNot"}


def alike(operator: type, apart: set[str]) -> bool:
    """Are both operators in its name, `Replace..._Add_Sub`, of the names that are set apart, or neither?"""
    _, one, other = operator.__name__.split("_")
    return (one in apart) == (other in apart)


def theirs() -> dict[str, list]:
    """Cosmic-ray's operators by family; those of one family are alternatives at a place."""
    return {
        "binary operator": [o for o in binary_operator_replacement.operators() if alike(o, BITS)],
        "comparison": [o for o in comparison_operator_replacement.operators() if alike(o, IDENTITY)],
        "unary operator": list(unary_operator_replacement.operators()),
        "constant": [number_replacer.NumberReplacer],
        "not": [boolean_replacer.AddNot],
        "boolean": [boolean_replacer.ReplaceTrueWithFalse, boolean_replacer.ReplaceFalseWithTrue],
        "and or": [boolean_replacer.ReplaceAndWithOr, boolean_replacer.ReplaceOrWithAnd],
        "break continue": [break_continue.ReplaceBreakWithContinue, break_continue.ReplaceContinueWithBreak],
        "exception": [exception_replacer.ExceptionReplacer],
        "decorator": [remove_decorator.RemoveDecorator],
        "empty loop": [zero_iteration_for_loop.ZeroIterationForLoop],
    }


def dropped_call(node: NodeOrLeaf) -> Iterator[Edit]:
    """A statement becomes `pass`, x.f(y) becomes x, f(x) becomes x."""
    if node.type not in ("atom_expr", "power") or not is_call(node.children[-1]):
        return
    if node.parent.type == "simple_stmt":
        yield node.start_pos, node.end_pos, "pass"
    elif node.parent.type == "raise_stmt":
        return
    elif len(node.children) > 2 and node.children[-2].type == "trailer" and node.children[-2].children[0] == ".":
        if len(node.children) == 3 and code(node.children[0]) in imported(node):
            return
        yield node.children[-2].start_pos, node.end_pos, ""
    elif len(node.children) == 2 and len(node.children[1].children) == 3:
        given = node.children[1].children[1]
        if given.type not in ("arglist", "argument"):
            yield node.start_pos, node.end_pos, f"({code(given)})"


def swapped_arguments(node: NodeOrLeaf) -> Iterator[Edit]:
    """The first two arguments that have no name, of a call that is handed two."""
    if node.type == "arglist" and is_call(node.parent):
        first, second = (node.children[i] if len(node.children) > i else None for i in (0, 2))
        if second is not None and not {"argument"} & {first.type, second.type} and code(first) != code(second):
            yield first.start_pos, second.end_pos, f"{code(second)}, {code(first)}"


def bound_one_off(node: NodeOrLeaf) -> Iterator[Edit]:
    """A bound of a slice or of range() that is no written number: one more, one less."""
    bounds = []
    if node.type == "subscript":
        bounds = [child for child in node.children if child not in (":",) and child.type != "sliceop"]
    elif is_call(node) and node.get_previous_sibling() is not None and code(node.get_previous_sibling()) == "range":
        given = node.children[1]
        bounds = [c for c in given.children if c != ","] if given.type == "arglist" else [given]
    for bound in bounds:
        if bound.type not in ("number", "operator", "argument"):
            yield bound.start_pos, bound.end_pos, f"({code(bound)}) + 1"
            yield bound.start_pos, bound.end_pos, f"({code(bound)}) - 1"


def membership(node: NodeOrLeaf) -> Iterator[Edit]:
    """`in` for `not in`, and the other way."""
    if node.type != "comparison":
        return
    for child in node.children[1::2]:
        if code(child) == "in":
            yield child.start_pos, child.end_pos, "not in"
        elif code(child).split() == ["not", "in"]:
            yield child.start_pos, child.end_pos, "in"


def opposite_name(node: NodeOrLeaf) -> Iterator[Edit]:
    """min for max, any for all, where they are called."""
    if node.type == "name" and node.value in OPPOSITES and node.parent.type in ("atom_expr", "power", "trailer"):
        yield node.start_pos, node.end_pos, OPPOSITES[node.value]


OURS: dict[str, Callable[[NodeOrLeaf], Iterator[Edit]]] = {
    "dropped call": dropped_call,
    "swapped arguments": swapped_arguments,
    "bound one off": bound_one_off,
    "membership": membership,
    "opposite": opposite_name,
}


def imported(node: NodeOrLeaf) -> set[str]:
    """The names that the file of a node imports anywhere."""
    return names_imported(node.get_root_node())


@lru_cache(maxsize=2)
def names_imported(tree: NodeOrLeaf) -> set[str]:
    statements = [n for n in nodes(tree) if n.type in ("import_name", "import_from")]
    return {name.value for statement in statements for name in statement.get_defined_names()}


def is_call(node: NodeOrLeaf) -> bool:
    return node.type == "trailer" and node.children[0] == "("


def code(node: NodeOrLeaf) -> str:
    """A node's text without what stands before it."""
    return node.get_code(include_prefix=False)


def nodes(tree: NodeOrLeaf) -> list[NodeOrLeaf]:
    """In the order of the text, a parent before its children."""
    out, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        out.append(node)
        if isinstance(node, BaseNode):
            waiting.extend(reversed(node.children))
    return out


def edited(source: str, edit: Edit) -> str:
    lines = source.splitlines(keepends=True)
    (row, column), (last, end), text = edit
    whole = lines[row - 1][:column] + text + lines[last - 1][end:]
    return "".join([*lines[: row - 1], whole, *lines[last:]])


def by_cosmic_ray(source: str, number: int, operator: type, index: int) -> str | None:
    """The source after the operator's change number `index` at node `number`; None where it has none to make."""
    tree = parso.parse(source)
    node = nodes(tree)[number]
    try:
        new = operator().mutate(node, index)
    except (AssertionError, AttributeError, IndexError):
        return None
    parent = node.parent
    if new is not None and new is not node:
        new.parent = parent
    parent.children = [c for c in (new if child is node else child for child in parent.children) if c is not None]
    return tree.get_code()


def differs(source: str, mutant: str | None) -> bool:
    """Is it Python, and another program?"""
    if mutant is None:
        return False
    try:
        return ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return False
