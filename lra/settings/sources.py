"""Classes of somebody else's, and digests of where they are written."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from lra.names import resolved

MOST = 2000  # files of a package that are read


def sources(*nodes: Any) -> dict[str, str]:
    """{class: what tells its version} of every class below the nodes that is neither ours nor Python's.

    Of an installed package its version, of a module or package of one's own a digest over its Python files.
    A class that cannot be found is left out here and refused where it is built.
    """
    named = sorted({target for node in nodes for target in targets(node)})
    return {target: found for target in named if (found := _source(resolved(target)))}


def targets(node: Any) -> Iterator[str]:
    """Every class that is named below a node, by `_target_`."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from targets(each)


def _source(target: str) -> str | None:
    top = target.split(".")[0]
    if top == "lra" or top in sys.stdlib_module_names:
        return None
    try:
        spec = util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    where = Path(spec.origin) if spec.origin else Path(next(iter(spec.submodule_search_locations)))
    if {"site-packages", "dist-packages"} & set(where.parts):
        return _version(top)
    files = [where]
    if spec.submodule_search_locations:
        files = sorted(p for root in spec.submodule_search_locations for p in Path(root).rglob("*.py"))[:MOST]
    whole = hashlib.sha256()
    for path in files:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _version(top: str) -> str | None:
    """Name and version of the installed distribution that brings a package of that name."""
    for name in (top, *metadata.packages_distributions().get(top, ())):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return None
