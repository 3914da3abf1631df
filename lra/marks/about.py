"""What the files of models say of them: title, family, source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lra.root import CONFIGS

About = Mapping[str, Mapping[str, Any]]


def abouts(own: Path | None = None) -> About:
    """Model -> `about` of its YAML; of a folder of one's own beside ours, which counts where both have one."""
    return _of(CONFIGS / "model") | (_read(own / "model") if own else {})


def families(own: Path | None = None) -> dict[str, str]:
    """Model -> family, of those that have one."""
    return {name: str(said["family"]) for name, said in abouts(own).items() if said.get("family")}


@cache
def _of(folder: Path) -> dict[str, Mapping[str, Any]]:
    return _read(folder)


def _read(folder: Path) -> dict[str, Mapping[str, Any]]:
    import yaml  # a door that shows no model does without

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        said = (yaml.load(path.read_text(), loader) or {}).get("about")
        if isinstance(said, Mapping):
            found[path.stem] = said
    return found
