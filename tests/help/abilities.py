"""The abilities a second time, slowly: what is asked where, from the tokens and the words of the rule alone."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from lra.tasks.ability.base import Ability
from lra.tasks.ability.brackets import Brackets
from lra.tasks.ability.compress import Compress
from lra.tasks.ability.flipflop import FlipFlop
from lra.tasks.ability.hops import Hops
from lra.tasks.ability.memorise import Memorise
from lra.tasks.ability.needle import Needle
from lra.tasks.ability.recall import Recall
from lra.tasks.ability.select import Select
from lra.tasks.ability.shift import Shift
from lra.tasks.ability.smooth import Smooth
from lra.tasks.ability.state import State
from lra.tasks.ability.texture import Texture

TASKS: dict[str, type[Ability]] = {
    "needle": Needle, "recall": Recall, "shift": Shift, "select": Select, "compress": Compress, "flipflop": FlipFlop,
    "state": State, "hops": Hops, "brackets": Brackets, "smooth": Smooth, "texture": Texture, "memorise": Memorise,
}  # fmt: skip
OTHER: dict[str, list[dict[str, Any]]] = {
    "needle": [{"max_len": 9, "needles": 3, "filler": 2}],
    "recall": [
        {"form": "adjacent"},
        {"form": "adjacent", "noise": 0.4},
        {"noise": 0.2},
        {"noise": 0.5, "mode": "replace"},
        {"form": "adjacent", "noise": 0.5, "mode": "replace", "pairs": 6},
        {"updates": 3},
        {"updates": 8, "form": "adjacent", "noise": 0.2},
        {"queries": 3},
        {"form": "adjacent", "fuzzy": 3, "max_len": 100, "queries": 7},
        {"form": "adjacent", "fuzzy": 1, "queries": 8},
        {"form": "adjacent", "fuzzy": 2, "pairs": 3, "keys": 3, "values": 2, "queries": 3, "max_len": 24},
        {"max_len": 300, "pairs": 60, "keys": 60, "queries": 100},
    ],
    "shift": [{"by": 1}, {"by": 63}, {"max_len": 200, "by": 129, "values": 2}],
    "select": [{"placement": "mad"}, {"marked": 32}, {"marked": 1}, {"marked": 2, "max_len": 7}],
    "compress": [{"reader": "last"}, {"max_len": 7}, {"max_len": 40, "values": 3}],
    "flipflop": [{"ignore": 0.0, "tested": [0.5]}, {"ignore": 0.98, "tested": [0.98, 0.9], "max_len": 200}],
    "state": [
        *({"group": g} for g in ("z3", "z60", "s3", "a5", "s5", "majority")),
        {"asked_from": 0.0, "max_len": 33},
        {"group": "s3", "asked_from": 0.3, "max_len": 150},
    ],
    "hops": [{"hops": 1}, {"hops": 3, "max_len": 70, "names": 5}, {"names": 2, "hops": 8}],
    "brackets": [{"depth": 2}, {"depth": 100, "max_len": 150, "types": 2}, {"max_len": 6}],
    "smooth": [],
    "texture": [{"grey": 8}, {"tiles": 2, "side": 6, "max_len": 108}, {"tiles": 3, "side": 2, "max_len": 16}],
    "memorise": [{"max_len": 7, "facts": 5, "values": 3}],
}  # fmt: skip


def answered(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    """Position -> class, of an item as symbols; every position that is asked, and no other."""
    return globals()[f"_{type(task).__name__.lower()}"](task, symbols, split)


def number(symbol: str) -> int:
    return int("".join(c for c in symbol if c.isdigit()))


def _needle(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    (found,) = [s for s in symbols if s.startswith("needle")]
    return {len(symbols) - 1: number(found)}


def _shift(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    return {i: number(symbols[i - task.by]) for i in range(task.by, len(symbols))}


def _select(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    marked = [number(s) for s in symbols if s.startswith("v")]
    asks = [i for i, s in enumerate(symbols) if s == "ask"]
    assert asks == list(range(len(symbols) - len(marked), len(symbols)))
    return dict(zip(asks, marked, strict=True))


def _compress(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    (reader,) = [i for i, s in enumerate(symbols) if s == "reader"]
    assert reader == (len(symbols) - 1 if task.answers == "last" else len(symbols) // 2)
    return {i: number(s) for i, s in enumerate(symbols) if i != reader}


def _flipflop(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    assert symbols[0].startswith("write") and symbols[-1] == "read"
    bit, out = -1, {}
    for i, symbol in enumerate(symbols):
        if symbol == "read":
            out[i] = bit
        elif symbol.startswith("write"):
            bit = number(symbol)
    return out


def _state(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    drawn, first = (
        [number(s) for s in symbols],
        0 if split == "train" else int(task.options["asked_from"] * len(symbols)),
    )
    if task.group == "majority":
        return {i: int(sum(drawn[: i + 1]) > (i + 1) / 2) for i in range(first, len(drawn))}
    modulus = {"parity": 2, "z3": 3, "z60": 60}.get(task.group)
    if modulus:
        return {i: sum(drawn[: i + 1]) % modulus for i in range(first, len(drawn))}
    things = list(range(int(task.group[1])))
    elements = sorted(p for p in permutations(things) if task.group[0] == "s" or sign(p) == 1)
    place, out = things, {}  # where each thing is after the moves so far
    for i, each in enumerate(drawn):
        place = [elements[each][p] for p in place]
        out[i] = elements.index(tuple(place))
    return {i: y for i, y in out.items() if i >= first}


def sign(p: tuple[int, ...]) -> int:
    """By cycles: one of even length turns it."""
    left, out = set(range(len(p))), 1
    while left:
        i, length = min(left), 0
        while i in left:
            left.remove(i)
            i, length = p[i], length + 1
        out *= -1 if length % 2 == 0 else 1
    return out


def _hops(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    links, out = {}, {}
    for i, symbol in enumerate(symbols):
        if ">" in symbol:
            source, target = symbol.split(">")
            level, name = source.split(":")
            assert (int(level), int(name)) not in links and not out
            links[int(level), int(name)] = int(target)
        elif symbol.endswith("?"):
            level, name = map(int, symbol[:-1].split(":"))
            while level < task.hops:
                level, name = level + 1, links[level, name]
            out[i] = name
    return out


def _brackets(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    stack, out = [], {}
    for i, symbol in enumerate(symbols):
        if symbol.startswith("open"):
            stack.append(i)
            assert len(stack) <= task.depth
            continue
        opener = stack.pop()
        if i - opener > 4:
            out[i] = number(symbols[opener])
    assert not stack
    return out


def _memorise(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    return {i: int(task.map[number(symbols[i - 1])]) for i, s in enumerate(symbols) if s == "ask"}


def _texture(task: Any, symbols: list[str], split: str) -> dict[int, set[int]]:
    """What the pixel may be: one value for each tile with this copy."""
    side, area = task.side, task.side**2
    tiles = [symbols[i : i + area] for i in range(0, len(symbols), area)]
    copy = [number(s) for s in tiles.pop()]
    out: dict[int, set[int]] = {len(symbols) - area + i: set() for i in range(area)}
    for tile in tiles:
        fine = {(i // side, i % side): number(s) for i, s in enumerate(tile)}
        made = []
        for row, column in fine:
            r, c = row - row % 2, column - column % 2
            mean = (fine[r, c] + fine[r, c + 1] + fine[r + 1, c] + fine[r + 1, c + 1]) / 4
            made.append(int(mean + 0.5))
        if made == copy:
            for i, value in enumerate(fine.values()):
                out[len(symbols) - area + i].add(value)
    return out


def _recall(task: Any, symbols: list[str], split: str) -> dict[int, int]:
    """Read from the left, as one who is told the grammar only."""
    if task.form == "joint":
        known, out = {}, {}
        for i, symbol in enumerate(symbols):
            if "v" in symbol:
                key, value = symbol[1:].split("v")
                known[key] = int(value)
            elif symbol[0] == "k":
                out[i] = known[symbol[1:]]
        return out
    known, out, at = {}, {}, 0
    while at < len(symbols):
        begin = at
        while at < len(symbols) and symbols[at][0] == "k" and (at == begin or task.fuzzy):
            at += 1
        key, begin = tuple(symbols[begin:at]), at
        while at < len(symbols) and symbols[at][0] == "v" and (at == begin or task.fuzzy):
            at += 1
        value = [number(s) for s in symbols[begin:at]]
        if key and value:
            known[key] = value
        elif key and task.fuzzy:
            blanks = known[key]
            assert symbols[at : at + len(blanks)] == ["blank"] * len(blanks)
            out.update({at + i: v for i, v in enumerate(blanks)})
            at += len(blanks)
        elif key:
            (out[begin - 1],) = known[key]
        else:
            at += 1
    return out
