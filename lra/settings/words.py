"""What the command line may name: the files of the config groups, the keys of the settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lra.errors import UserError, nearest
from lra.root import CONFIGS

GROUPS = ("task", "model", "pair", "budget", "scale", "recipe", "sweep", "treatment", "launcher")
OPTIONAL = ("pair", "scale", "recipe")

# Places and free texts, whose value is taken as it is typed.
AS_TYPED = (
    "results_dir", "output_dir", "data_dir", "checkpoint", "name", "task.path", "task.data_dir", "wandb.project",
    "wandb.entity",
)  # fmt: skip
# What others call some of ours.
USUAL = {
    "lr": "train.learning_rate",
    "epochs": "train.steps (one step is one batch)",
    "bs": "train.batch_size",
    "num_workers": "data.workers",
    "wd": "train.weight_decay",
}


def unknown(name: str, known: Sequence[str]) -> str:
    """What to say of an option that there is not, in one line: ours by the usual name, else the nearest."""
    if name in OPTIONAL:
        return f"{name}: follows from the task, the model and the budget; it cannot be chosen"
    if name in known:
        return f"{name}: not every task or model that is chosen here has this option"
    last = name.rsplit(".", 1)[-1]
    usual = f" It is called {USUAL[last]} here." if last in USUAL else nearest(name, known)
    return f"{name}: there is no such option.{usual}"


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Names of the files of a config group, the user's own folder included."""
    folders = [CONFIGS, *([Path(config_dir)] if config_dir else [])]
    return sorted({p.stem for f in folders for p in (f / group).glob("*.yaml")})


def keys(config_dir: str | None = None) -> list[str]:
    """All keys that an override may name, for suggestions."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return [*GROUPS, *_flat(compose("config"))]


def _flat(node: Any, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig

    for key in node:
        name = f"{prefix}{key}"
        yield name
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            yield from _flat(child, f"{name}.")


def as_typed(words: Sequence[str]) -> list[str]:
    """The words with places and free texts quoted, so that Hydra's grammar takes whatever a folder is called.

    In a sweep (`-m`) a comma separates values, unless what is typed is there as a whole.
    """
    return [_quoted(word, {"-m", "--multirun"} & set(words)) for word in words]


def _quoted(word: str, several: set[str]) -> str:
    key, equals, value = word.partition("=")
    if key == "devices" and re.fullmatch(r"\d+(,\d+)*", value):
        return f"devices=[{value}]"  # several are one list, and no sweep over them
    if equals and not key.lstrip("+~"):
        raise UserError(f"{word!r} is not an option; write key=value, for instance task=listops or train.steps=100")
    plain = re.fullmatch(r"[\w./-]*|null|\$\{.*\}|'.*'|\".*\"|\[.*\]", value, re.ASCII)
    if not equals or key.lstrip("+") not in AS_TYPED or plain:
        return word
    if several and "," in value and not os.path.exists(os.path.expanduser(value)):  # noqa: PTH110, PTH111
        # not pathlib's, which raises where it may not look
        return word
    return f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """A text as a word that Hydra's grammar takes whatever is in it."""
    # There a backslash is one but before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


DRY = "--dry-run"


def dry(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Is nothing but a word on what would be done asked for? And the other words."""
    return DRY in words, [word for word in words if word != DRY]


def taken(words: Sequence[str], keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """What the words `key=value` of these keys say, of several of one key the last; and the other words."""
    said = [(word, *word.partition("=")) for word in words]
    given = {key: value for _, key, equals, value in said if equals and key in keys}
    return given, [word for word, key, equals, _ in said if not equals or key not in keys]


def split(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command line less `--config-dir FOLDER`, and that folder."""
    rest, folder = [], None
    given = iter(words)
    for word in given:
        if word in ("--config-dir", "-cd"):
            folder = next(given, None)
            if folder is None:
                raise UserError(f"{word}: a folder must follow it")
        elif word.startswith("--config-dir="):
            folder = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, folder
