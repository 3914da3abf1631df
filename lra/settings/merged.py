"""What Hydra composes, merged from plain values, in a fiftieth of its time.

Hydra builds an object with checks for each value of each file, several times over, and sweeps and tables of all exams
compose hundreds of times. Here is what the words and files of nearly all runs ask for. All else, errors among it, only
Hydra can say: `composed` then has no answer. tests/settings/test_merged.py holds the one against the other.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from lra.root import CONFIGS
from lra.settings.schema import COMPUTED, Settings, types_of
from lra.settings.typed import plain
from lra.settings.words import OPTIONAL

SIMPLE = re.compile(r"[A-Za-z_][\w.]*=[^$\\]*")  # a word that sets one value, with nothing in it that is worked out
WHOLE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+),([A-Za-z_]\w*)\}")
DEEPEST = 8  # values that follow one another


@dataclass(frozen=True)
class Composed:
    """Plain values of all but `hydra`. asked, own: before and after those that follow others were worked out. choices:
    the file of each group. words: as Hydra lists those of a run."""

    asked: dict[str, Any]
    own: dict[str, Any]
    choices: Mapping[str, Any]
    words: Sequence[str]


class Hydras(Exception):
    """What only Hydra can say."""


def composed(words: Sequence[str], folders: Sequence[str] = ()) -> Composed | None:
    """Of words as Hydra takes them. folders: besides configs/, absolute. None where only Hydra can say."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return _composed(words, [CONFIGS, *map(Path, folders)])
    except (Hydras, HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError):
        return None


def _composed(words: Sequence[str], places: Sequence[Path]) -> Composed:
    chosen, rest = _split(words, places)
    choices: dict[str, Any] = {}
    asked = {key: value for key, value in plain(Settings()).items() if key not in COMPUTED}
    for body in _bodies(chosen, choices, places):
        body = {key: value for key, value in body.items() if key not in ("defaults", "hydra")}
        _merge(asked, body, types_of(Settings))
    for key, value in rest:
        _set(asked, key, value)
    own = _worked_out(asked, asked, types_of(Settings))
    return Composed(asked, own, choices, list(words))


def _split(words: Sequence[str], places: Sequence[Path]) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    """The files that are chosen, by group, and the values that are set, in order."""
    chosen, rest = {}, []
    for word in words:
        if not SIMPLE.fullmatch(word) or word.startswith("hydra"):
            raise Hydras(word)
        key, value = _parsed(word)
        if not any((place / key).is_dir() for place in places):
            rest.append((key, deepcopy(value)))
        elif isinstance(value, str) and key not in OPTIONAL:
            chosen[key] = value
        else:
            raise Hydras(word)
    return chosen, rest


@lru_cache(maxsize=10_000)
def _parsed(word: str) -> tuple[str, Any]:
    """Key and value, by Hydra's grammar; the value is not to be written to."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType

    (found,) = OverridesParser.create().parse_overrides([word])
    if found.type != OverrideType.CHANGE or found.package is not None or found.is_sweep_override():
        raise Hydras(word)
    return found.key_or_group, found.value()


def _bodies(chosen: dict[str, str], choices: dict[str, Any], places: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The files in the order in which they are merged; fills in choices."""
    if any((place / "settings.yaml").exists() for place in places):  # which is the schema's name
        raise Hydras("settings")
    main = _file("config", places)
    if main is None:
        raise Hydras("config")
    listed = [(*_entry(each), each) for each in main["defaults"]]
    usual = {key: value for kind, key, value, _ in listed if kind == "group" and value is not None}
    if set(chosen) - {key for kind, key, *_ in listed if kind == "group"}:
        raise Hydras(str(chosen))
    choices.update(usual | _overrides(chosen, usual, places) | chosen)
    for kind, key, value, _ in listed:
        if kind == "self":
            yield main
        elif kind == "group" and key in choices:
            yield from _with_its_own(key, choices[key], places)
        elif kind == "optional":
            name = re.sub(r"\$\{(\w+)\}", lambda found: choices[found[1]], value)
            yield from _with_its_own(key, name, places, optional=True)


def _entry(each: Any) -> tuple[str, str, str | None]:
    """Of config.yaml's list of defaults: self, group, optional or passed; the group; the file's name."""
    if each in ("_self_", "settings"):
        return ("self" if each == "_self_" else "passed"), each, None
    ((key, name),) = each.items()
    kind, _, group = key.rpartition(" ")
    if kind == "override" and group.startswith("hydra/"):
        return "passed", group, name
    return {"": "group", "optional": "optional"}[kind], group, name


def _overrides(chosen: Mapping[str, str], usual: Mapping[str, str], places: Sequence[Path]) -> dict[str, str]:
    """Files of other groups that a sweep's file chooses."""
    name = chosen.get("sweep", usual.get("sweep"))
    body = _file(f"sweep/{name}", places) if name is not None else None
    out = {}
    for each in (body or {}).get("defaults", []):
        ((key, value),) = each.items() if isinstance(each, dict) else [("", None)]
        group = key.removeprefix("override /")
        if group not in usual or group == key or not isinstance(value, str):
            raise Hydras(str(each))
        out[group] = value
    return out


def _with_its_own(
    group: str, name: str, places: Sequence[Path], optional: bool = False, depth: int = 0
) -> Iterator[dict[str, Any]]:
    """A group's file, and what it takes as its defaults."""
    body = _file(f"{group}/{name}", places)
    if body is None:
        if optional:
            return
        raise Hydras(name)
    if depth > DEEPEST or not isinstance(body.get("defaults", []), list):
        raise Hydras(name)
    before = [each for each in body.get("defaults", []) if group != "sweep"]
    if not all(isinstance(each, str) and re.fullmatch(r"[\w/]+", each) and each[0] != "/" for each in before):
        raise Hydras(name)
    for each in before if "_self_" in before else [*before, "_self_"]:
        if each == "_self_":
            yield body
        else:
            yield from _with_its_own(group, each, places, depth=depth + 1)


def _file(name: str, places: Sequence[Path]) -> dict[str, Any] | None:
    """The first place's file of that name; None where there is none. Not to be written to."""
    if "??" in name or ".." in name:
        raise Hydras(name)
    for number, place in enumerate(places):
        try:
            text = (place / f"{name}.yaml").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        whole, body = _body(text)
        if (name != "config" and not whole) or (number and "hydra" in body):
            raise Hydras(name)
        return body
    return None


@lru_cache(maxsize=1000)
def _body(text: bytes) -> tuple[bool, dict[str, Any]]:
    """Of a file's content: does it stand at the root, and its values. By content, as files may be edited meanwhile."""
    from omegaconf import OmegaConf

    lines = text.decode()
    head = (line.strip() for line in lines[:512].splitlines() if line.strip())
    tags = [line.lstrip("#").split() for line in takewhile(re.compile(r"#\s*@").match, head)]
    body = OmegaConf.to_container(OmegaConf.load(io.StringIO(lines)))
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise Hydras("no mapping")
    return tags == [["@package", "_global_"]], body


def _merge(node: dict[str, Any], more: Mapping[str, Any], hints: Any) -> None:
    """Lay more over node. hints: {key: type}, the type of every value, or Any of what may hold anything."""
    for key, value in more.items():
        hint = _hint(hints, key)
        before = node.get(key)
        if isinstance(value, dict):
            inside = _inside(hint)
            if hint is Any and not isinstance(before, dict):
                if isinstance(before, list) or (isinstance(before, str) and "${" in before):
                    raise Hydras(key)
                node[key] = before = {}
            if not isinstance(before, dict):
                raise Hydras(key)
            _merge(before, value, inside)
        elif isinstance(before, dict):
            raise Hydras(key)
        else:
            node[key] = _typed(value, hint)


def _hint(hints: Any, key: Any) -> Any:
    if not isinstance(hints, Mapping):
        return hints
    if key not in hints or key in COMPUTED:
        raise Hydras(str(key))
    return hints[key]


def _inside(hint: Any) -> Any:
    """Types of what stands in a mapping of that type."""
    if hint is Any:
        return Any
    if is_dataclass(hint):
        return types_of(hint)
    if get_origin(hint) in (dict, Mapping):
        return get_args(hint)[1]
    raise Hydras(str(hint))


def _typed(value: Any, hint: Any) -> Any:
    """A value as a field of that type holds it; one that follows another as it stands."""
    if value == "???":
        raise Hydras(value)
    if hint is Any or (isinstance(value, str) and "${" in value):
        return deepcopy(value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise Hydras(str(value))
        return [_typed(each, get_args(hint)[0]) for each in value]
    kinds = get_args(hint) or (hint,)
    if value is None and NoneType in kinds:
        return None
    (kind,) = (each for each in kinds if each is not NoneType)
    if kind is float and type(value) is int:
        return float(value)
    if kind not in (int, float, bool, str) or type(value) is not kind:
        raise Hydras(str(value))
    return value


def _set(node: dict[str, Any], key: str, value: Any) -> None:
    """What a word sets must be there."""
    hints: Any = types_of(Settings)
    *path, last = key.split(".")
    for part in path:
        hint = _hint(hints, part)
        node = node.get(part)
        if not isinstance(node, dict):
            raise Hydras(key)
        hints = _inside(hint)
    if last not in node or isinstance(node[last], dict) or isinstance(value, dict):
        raise Hydras(key)
    node[last] = _typed(value, _hint(hints, last))


def _worked_out(node: Any, root: Mapping[str, Any], hints: Any, depth: int = 0) -> Any:
    """The same with the values of those that follow others."""
    if isinstance(node, dict):
        return {
            key: _worked_out(value, root, _inside(_hint(hints, key)))
            if isinstance(value, dict)
            else _typed(_worked_out(value, root, Any), _hint(hints, key))
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_worked_out(value, root, Any, depth) for value in node]
    if not isinstance(node, str) or "${" not in node:
        return node
    if depth > DEEPEST or "\\" in node:
        raise Hydras(node)
    if found := ENVIRONMENT.fullmatch(node):
        return os.environ.get(found[1], None if found[2] == "null" else found[2])
    if found := WHOLE.fullmatch(node):
        return _worked_out(_at(root, found[1]), root, Any, depth + 1)
    parts = WHOLE.sub(lambda found: _text(_worked_out(_at(root, found[1]), root, Any, depth + 1)), node)
    if "${" in parts:
        raise Hydras(node)
    return parts


def _at(root: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(root, Mapping) or part not in root:
            raise Hydras(name)
        root = root[part]
    if isinstance(root, Mapping):
        raise Hydras(name)
    return root


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Hydras(str(value))
    return value
