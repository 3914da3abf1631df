"""A class or function of somebody's own in place of a YAML: `lra.run("task=listops", mixer=MyMixer)`."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.settings.words import choices

MADE = "lra-mixer-"  # how a folder's name begins that holds the YAML of such a class


@dataclass(frozen=True)
class Asked:
    """Words of a command line, the folder that goes with them, and where a new process finds the classes."""

    words: tuple[str, ...]
    config_dir: str | None = None
    path: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        path = [*self.path, *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


@contextmanager
def asked(
    words: tuple[str, ...], config_dir: str | Path | None, mixer: Callable[..., Any] | None, name: str | None
) -> Iterator[Asked]:
    """What the words and the mixer ask for. The mixer gets a model of its own, called by its class or `name`.

    Raises UserError for a mixer that a new process could not import.
    """
    if mixer is None:
        if name is not None:
            raise UserError("name: is for a mixer; the models of configs/ have their own")
        yield Asked(words, None if config_dir is None else str(config_dir))
        return
    target, bound = _target(mixer)
    name = name or _snake(target.rsplit(".", 1)[1])
    if name in choices("model", config_dir):
        raise UserError(f"name: there is a model {name} already; give another, as name={name}_mine")
    node = json.dumps({"_target_": target, "_partial_": True, **bound})
    with tempfile.TemporaryDirectory(prefix=MADE) as scratch:
        models = Path(scratch) / "model"
        models.mkdir()
        (models / f"{name}.yaml").write_text(f"# @package _global_\nmodel:\n  mixer: {node}\n")
        more = (f"hydra.searchpath=['{config_dir}']",) if config_dir is not None else ()
        own = sys.modules[target.split(".")[0]]
        place = Path(own.__file__ or next(iter(own.__path__))).resolve().parent
        if getattr(own, "__path__", None):
            place = Path(next(iter(own.__path__))).resolve().parent
        yield Asked((*more, f"model={name}", *words), scratch, (str(place),))


def _target(mixer: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """(dotted name, bound keywords) of an importable class, function or partial of one."""
    bound: dict[str, Any] = {}
    while isinstance(mixer, functools.partial):
        if mixer.args:
            raise UserError("mixer: a partial with keywords alone can be written down; name its positional arguments")
        bound = mixer.keywords | bound
        mixer = mixer.func
    module, name = getattr(mixer, "__module__", None), getattr(mixer, "__qualname__", None)
    if not callable(mixer) or not module or not name:
        raise UserError(f"mixer: {mixer!r} is not a class or a function that makes a mixer")
    if module == "__main__" or "<" in name:
        raise UserError(
            f"mixer: {name} was typed into a session or a function, where the process that runs it cannot find it; "
            f"put it into a file, say {_snake(name.split('.')[-1])}.py, and import it from there"
        )
    try:
        json.dumps(bound)
    except TypeError as error:
        raise UserError(f"mixer: {name} is bound to something that cannot be written down ({error})") from error
    return f"{module}.{name}", bound


def _snake(name: str) -> str:
    """MyMixer -> my_mixer."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
