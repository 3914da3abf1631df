"""Names of classes: what they were called before, and how they count in a run's identity."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lra.root import ROOT

# Modules by the names they had in 0.1, where they now have others.
MOVED = {
    "models.attention": "lra.models.parts.heads",
    "models.blocks": "lra.models.parts.patterned",
    "models.blockwise": "lra.models.parts.tiles",
    "models.draws": "lra.models.parts.redrawn",
    "models.factory": "lra.models.parts.factory",
    "models.flex": "lra.models.parts.flex",
    "tasks.listops_generator": "lra.tasks.listops.generator",
    "tasks.learned_floors": "lra.tasks.floors.learned",
    "tasks.pair_floors": "lra.tasks.floors.pairs",
}


def resolved(target: str) -> str:
    """The dotted name of a class as it is imported today.

    "models.performer.Performer", as YAMLs and records of 0.1 have it, is ours, unless a module of that name
    can be found that is not ours: then it is what the user says it is, a mixer in a file models.py.
    """
    module, _, name = target.rpartition(".")
    if module.split(".")[0] not in ("models", "tasks") or _found(module, tuple(sys.path)):
        return target
    return f"{MOVED.get(module, f'lra.{module}')}.{name}"


@cache
def _found(module: str, path: tuple[str, ...]) -> bool:
    """Can a module of that name be imported from that path that is not ours, as a checkout's own folder would be?"""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not all(Path(place).is_relative_to(ROOT) for place in places)


@cache
def _canonical(target: str, path: tuple[str, ...]) -> str:
    now = resolved(target)
    return now.rsplit(".", 1)[-1] if now.split(".")[0] == "lra" else now


def canonical_target(target: str) -> str:
    """How a class counts in an identity: ours by its name alone, whatever file it lies in."""
    return _canonical(target, tuple(sys.path))


def with_todays_names(node: Any) -> Any:
    """A copy of a mapping of classes and arguments in which each `_target_` is one that can be imported."""
    if isinstance(node, Mapping):
        return {k: resolved(v) if k == "_target_" else with_todays_names(v) for k, v in node.items()}
    return [with_todays_names(v) for v in node] if isinstance(node, (list, tuple)) else node
