"""What makes two runs the same, decided once.

Two runs are the same experiment where all that is declared `experiment` in lra.settings.schema is the
same, the seed aside. What stands at its default counts as not said, so that a field added later changes no
old identity; classes count by their names, not by the files they lie in; a class of somebody else's brings
a digest of its source, so that an edited mixer is another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lra.names import canonical_target
from lra.settings.schema import CONDITION, EXPERIMENT, Settings, kind_of
from lra.settings.typed import leaves

# Places in a task's settings; what lies there is known by its fingerprint.
PLACES = ("task.data_dir", "task.path")
TOLD = ("task.sizes", "task.seed", "task.test_len")  # which the row of an ability's exam does not say
# CLASS.KEY of arguments that came to a class of ours after 0.1, with the value that means what was done before. Of the
# class, because the same word and value may say something else to another one.
LATER: Mapping[str, Any] = {
    "FullAttention.conv_kernel": None, "FullAttention.causal": False, "FullAttention.persistent": 0,
    "LinearAttention.conv_kernel": None, "LinearAttention.causal": False,
    "Classifier.pixels": None, "Pathfinder.aux": None, "Pathfinder.aux_weight": 1.0,
}  # fmt: skip


def identity(config: Mapping[str, Any], schema: type = Settings, later: Mapping[str, Any] = LATER) -> str:
    """16 hex digits over what shapes the experiment; config: plain, resolved, of a run or of a record."""
    kept = {}
    for name, default in _experiment(schema):
        if not _same(value := _at(config, name, default), default):
            kept[name] = value
    for part in ("task", "model", "treatment"):
        if isinstance(node := kept.get(part), Mapping):
            kept[part] = essential(node, f"{part}.", later)
    if kept.get("checkpoint"):
        kept["checkpoint"] = Path(kept["checkpoint"]).name
    return digest(kept)


@cache
def _experiment(schema: type) -> tuple[tuple[str, Any], ...]:
    """The fields that count, with their defaults: a run with another seed is the same experiment."""
    return tuple((n, d) for n, d in leaves(schema) if n != "seed" and kind_of(n, schema) == EXPERIMENT)


def digest(parts: Any) -> str:
    """16 hex digits over anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def essential(node: Any, name: str, later: Mapping[str, Any] = LATER) -> Any:
    """A mapping of a class and its arguments without places, later keys at their default, and module paths."""
    if type(node) is dict or isinstance(node, Mapping):  # the first is quick, and twenty thousand records are many
        owner = canonical_target(node["_target_"]) if "_target_" in node else ""
        return {
            k: owner if k == "_target_" else essential(v, f"{name}{k}.", later)
            for k, v in node.items()
            if f"{name}{k}" not in PLACES and not ((word := f"{owner}.{k}") in later and later[word] == v)
        }
    return [essential(v, name, later) for v in node] if isinstance(node, (list, tuple)) else node


def _at(config: Mapping[str, Any], name: str, default: Any) -> Any:
    for part in name.split("."):
        if not (type(config) is dict or isinstance(config, Mapping)) or part not in config:
            return default
        config = config[part]
    return config


def _same(value: Any, default: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return value == default
    return (list(value) if isinstance(value, (list, tuple)) else value) == (
        list(default) if isinstance(default, tuple) else default
    )


def conditions(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a configuration has as its conditions, but for those that have to be resolved on a machine first: device,
    dtype and threads. Two are alike where these are equal."""
    return tuple(_frozen(_at(config, name, default)) for name, default in _conditions())


@cache
def _conditions() -> tuple[tuple[str, Any], ...]:
    return tuple((n, d) for n, d in leaves() if kind_of(n) == CONDITION and n not in ("device", "dtype", "threads"))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def variant(own: Mapping[str, Any], standard: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The words that make of the budget's `standard` run this one, without places.

    own, standard: plain and resolved; asked: `own` before its interpolations were resolved, so that a value
    that only follows another is not named beside it. What an exam of an ability is made of stands in its row, so that
    another one is another exam and no variant, but for TOLD.
    """
    ours, theirs, before = (dict(_flat(each)) for each in (own, standard, asked))
    by_row = bool((own.get("exam") or {}).get("asks"))
    out = []
    for name in sorted({*ours, *theirs}):
        if by_row and name.startswith("task.") and name not in TOLD:
            continue
        if name in PLACES or name.split(".")[0] in ("variant", "sources", "treatment", "words") or name == "seed":
            continue
        if kind_of(name) != EXPERIMENT or ours.get(name) == theirs.get(name):
            continue
        if name not in ours:
            out.append(f"~{name}")
        elif not (isinstance(before.get(name), str) and "${" in before[name]):
            out.append(f"{name}={word(Path(ours[name]).name if name == 'checkpoint' else ours[name])}")
    return out


def departures(words: Iterable[str]) -> list[str]:
    """Those of a record's `variant` that make another run of it: older ones named a place among them."""
    return [word for word in words if word.partition("=")[0] not in PLACES]


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def word(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without what names places on this machine."""
    kept = {
        k: v
        for k, v in config.items()
        if k not in ("data_dir", "results_dir", "output_dir", "sweep", "launcher", "words")
    }
    kept["task"] = {k: v for k, v in config.get("task", {}).items() if k != "data_dir"}
    for part, key in ((kept["task"], "path"), (kept, "checkpoint")):
        if part.get(key):
            part[key] = Path(part[key]).name
    return kept
