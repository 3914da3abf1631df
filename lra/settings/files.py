"""Where in the user's files an error stands: file, line and key."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from lra.root import CONFIGS, ROOT


def file_of(config: str, config_dir: str | None = None) -> Path | None:
    """The file that Hydra calls "model/mine"; the user's own before ours."""
    folders = [*([Path(config_dir)] if config_dir else []), CONFIGS]
    return next((p for folder in folders if (p := folder / f"{config}.yaml").is_file()), None)


def line_of(path: Path, key: str) -> int | None:
    """The line of a key ("train.steps", or as much of it as there is) in a YAML file, from 1."""
    import yaml

    try:
        node, line = yaml.compose(path.read_text()), None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    for part in key.split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((k, v) for k, v in pairs if k.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def unreadable(config_dir: str | None) -> str | None:
    """Which of the user's YAML files is no text, in a line."""
    for path in sorted(Path(config_dir).rglob("*.yaml")) if config_dir else []:
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return f"{path}: cannot be read as UTF-8 text ({error})"
    return None


def place(error: BaseException) -> str:
    """ "mine.py:12": the last line on the way to the error that is neither a library's nor Python's, ours only where
    there is no other."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _library(f.filename)]
    theirs = [f for f in frames if not Path(f.filename).is_relative_to(ROOT)]
    own = theirs or [f for f in frames if "lra/settings" not in f.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else type(error).__name__


def _library(name: str) -> bool:
    return name.startswith("<") or bool({"site-packages", "dist-packages", "importlib"} & set(Path(name).parts))


def told(error: BaseException) -> str:
    """An exception in one line: its type, what it says, where."""
    said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {said[:300] or 'no message'} ({place(error)})"


def trouble(target: Any) -> str | None:
    """Why the class that a `_target_` names cannot be had, in one line; null if it can."""
    import importlib

    from lra.errors import nearest

    module, _, name = str(target).rpartition(".")
    if not module:
        return f"_target_: {target!r} is not MODULE.CLASS"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            if (outer := _attribute(module, name)) is not False:
                return outer
            top = module.split(".")[0]
            return f"{target}: no module {error.name!r} is there; one of your own is {top}.py where you start"
        return f"{target}: {told(error)}"
    except Exception as error:
        return f"{target}: {told(error)}"
    if hasattr(found, name):
        return None
    return f"{target}: {module} has no {name!r}.{nearest(name, vars(found))}"


def _attribute(module: str, name: str) -> str | bool | None:
    """Whether the name lies in a class of a module; False if it is no question of that."""
    import importlib

    outer, _, inner = module.rpartition(".")
    try:
        found = getattr(importlib.import_module(outer), inner, None) if outer else None
    except Exception:
        return False
    return None if hasattr(found, name) else False
