"""The one command that does a run again: what was typed, without places, with all that was chosen here said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra.settings.own import MADE
from lra.settings.schema import INCIDENTAL, Settings, kind_of

CHOSEN = ("task", "model", "budget")  # named even where the default was meant
KEPT = ("name", "sweep")  # of what is incidental; and all bounds of a run, which may end it
NAMED = ("task.path", "checkpoint")  # places whose last part is what is known of them

HANDED = f"--config-dir={MADE}"


def words(typed: Sequence[str], choices: Mapping[str, str], folders: Sequence[str] = ()) -> list[str]:
    """Those that compose the run again: the choices first, then what was typed.

    typed: of one run, as Hydra has them. choices: the chosen file of each group. folders: where else files were found.
    """
    rest = [portable(word) for word in typed if key_of(word) not in CHOSEN and _counts(key_of(word))]
    if choices.get("treatment", "none") != "none" and not any(key_of(word) == "treatment" for word in rest):
        rest.insert(0, f"treatment={choices['treatment']}")
    return [*(f"--config-dir={_shown(f)}" for f in folders), *(f"{group}={choices[group]}" for group in CHOSEN), *rest]


def key_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _counts(key: str) -> bool:
    """Does a word make of a run another, or one under other conditions? No place does, and nothing of a sweep's."""
    if key == "task.data_dir":
        return False
    try:
        kind = kind_of(key)
    except KeyError:  # a group
        return not key.startswith(("hydra", "launcher"))
    return kind != INCIDENTAL or key in KEPT or key.startswith(("run.", "cost.", "search."))


def portable(word: str) -> str:
    """A word as it may stand in a record: of a place of somebody's disk its last part."""
    key, equals, value = word.partition("=")
    return f"{key}{equals}{Path(value.strip(chr(39))).name}" if key.lstrip("+") in NAMED else word


def _shown(folder: str) -> str:
    """As seen from where the run was started; of one elsewhere its name."""
    path = Path(folder)
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return path.name


def command(
    settings: Settings, resolved: Mapping[str, Any], steps: int | None = None, processes: int = 1
) -> str | None:
    """One line for a shell; null of settings that nobody typed.

    resolved: key -> value of what was left open (threads, dtype, device), as it was on the machine; null is left out.
    steps: that a number of minutes came to.
    """
    if not settings.words:
        return None
    said = {"seed": settings.seed, **{k: v for k, v in resolved.items() if v is not None}}
    given = [word for word in settings.words if key_of(word) not in said]
    if steps is not None:
        given = [word for word in given if key_of(word) not in ("train.core_minutes", "train.steps")]
        said["train.steps"] = steps
    given += [f"{key}={value}" for key, value in said.items()]
    if any(word.startswith(HANDED) for word in given):
        return _called(settings, [word for word in given if not word.startswith(HANDED)])
    start = ["python", "-m"] if processes == 1 else ["torchrun", f"--nproc_per_node={processes}", "-m"]
    return shlex.join([*start, "lra", *given])


def rules(settings: Settings) -> str | None:
    """The same of a task's rules, to which a model is nothing."""
    if not settings.words:
        return None
    given = [w for w in settings.words if key_of(w).split(".")[0] in ("--config-dir", "task", "budget")]
    return " ".join(["python -m lra.floors", shlex.join(word for word in given if not word.startswith(HANDED))])


def _called(settings: Settings, given: Sequence[str]) -> str:
    """Of a class that was handed to `lra.run`, which has no file."""
    folder = next((w.partition("=")[2] for w in given if w.startswith("--config-dir=")), None)
    given = [word for word in given if not word.startswith("--config-dir=")]
    node = {k: v for k, v in settings.model["mixer"].items() if k not in ("_target_", "_partial_")}
    module, _, name = settings.model["mixer"]["_target_"].rpartition(".")
    mixer = f"{module}.{name}"
    if node:
        mixer = f"functools.partial({mixer}, {', '.join(f'{k}={v!r}' for k, v in node.items())})"
    where = f", config_dir={folder!r}" if folder is not None else ""
    typed = ", ".join(
        repr(word) for word in given if key_of(word) != "model" and not key_of(word).startswith("model.mixer.")
    )
    code = f"import functools, lra, {module}; lra.run({typed}, mixer={mixer}, name={settings.choices.model!r}{where})"
    return shlex.join(["python", "-c", code])
