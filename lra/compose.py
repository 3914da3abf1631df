"""From the command line's words to a configuration, and from that to a task and a model.

The only place where tasks and models meet. Nothing here names one: names are files in configs/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lra.errors import UserError, nearest
from lra.record import INCIDENTAL
from lra.settings import checked, register

HERE = Path(__file__).resolve().parent
# Beside lra/ in a checkout, inside it in a wheel.
CONFIGS = next(p for p in (HERE / "configs", HERE.parent / "configs") if p.is_dir())
GROUPS = ("task", "model", "pair", "budget", "scale", "sweep")


def config(overrides: list[str], config_dir: str | None = None) -> Any:
    """The composed, checked DictConfig; `cfg.task.name` and `cfg.model_name` name the two choices.

    Raises UserError, in one line, for an unknown option, key or value.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register()
    if config_dir is not None:
        overrides = [f"hydra.searchpath=[{Path(config_dir).resolve()}]", *overrides]
    GlobalHydra.instance().clear()
    with explained(config_dir), initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return named(compose("config", overrides=overrides, return_hydra_config=True))


def named(cfg: Any) -> Any:
    """Fix the choices' names in a configuration that still holds `hydra`, check it, drop `hydra`."""
    from omegaconf import OmegaConf, open_dict

    choices = cfg.hydra.runtime.choices
    words = list(cfg.hydra.overrides.task)
    with open_dict(cfg):
        cfg.choices = {"task": choices.task, "model": choices.model}
        cfg.variant = variant(words)
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return checked(cfg)


def variant(words: list[str]) -> list[str]:
    """The overrides that make a run another than the budget's standard one, without paths.

    How many threads is a condition, kept in the record with the machine.
    """
    ordinary = {"task", "model", "budget", "threads", *INCIDENTAL}
    kept = []
    for word in sorted(words):
        key, _, value = word.lstrip("+").partition("=")
        if key.split(".")[0] in ("measure", "cost", "wandb", "hydra") or key in ordinary or key.lstrip("~") in ordinary:
            continue
        kept.append(f"{key}={Path(value).name}" if key in ("task.path", "checkpoint") else word)
    return kept


def plain(cfg: Any) -> dict[str, Any]:
    """The configuration as dicts, lists, strings and numbers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


def task(cfg: Any) -> Any:
    """The task that `cfg.task` names. Costs nothing: no data are touched."""
    multiple = cfg.data.pad_multiple or (128 if cfg.compile else 1)
    return instantiate(cfg.task, "task", pad_to=cfg.data.pad_to, pad_multiple=multiple)


def model(cfg: Any, exam: Any) -> Any:
    """The model that `cfg.model` describes, sized by what the task knows of itself."""
    return instantiate(
        cfg.model,
        "model",
        vocab_size=exam.vocab_size,
        num_classes=exam.num_classes,
        max_len=exam.max_len,
        documents=exam.documents,
    )


def instantiate(node: Any, field: str, **facts: Any) -> Any:
    """Hydra's instantiate; what the class objects to becomes a UserError."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as build

    try:
        return build(node, **facts, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, (ValueError, TypeError, ImportError)) or "Error locating target" in str(error):
            text = str(cause).split("\nfull_key")[0]
            if isinstance(cause, TypeError):
                text = f"{field}: {text}"
            raise UserError(text) from error
        raise cause from None
    except ValueError as error:
        raise UserError(str(error)) from error


class explained:
    """Turn Hydra's and OmegaConf's errors into one line that names the nearest alternatives."""

    def __init__(self, config_dir: str | None = None) -> None:
        self.config_dir = config_dir

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, (HydraException, OmegaConfBaseException)):
            raise UserError(one_line(error, self.config_dir)) from error


def one_line(error: BaseException, config_dir: str | None = None) -> str:
    """What the user should know of a Hydra or OmegaConf error."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        options = sorted(error.options)
        return f"{group}: {name!r} is not one of {', '.join(options)}.{nearest(name, options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is not an option; write key=value, for instance task=listops or train.steps=100"
    text = str(error)
    if text.startswith("Error merging override") and error.__cause__ is not None:
        key = text.removeprefix("Error merging override").split("=")[0].strip(" +~")
        return f"{key}: {str(error.__cause__).splitlines()[0]}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        key = override.group(1)
        cause = error.__cause__
        if cause is not None and "not in struct" not in str(cause) and "not in '" not in str(cause):
            return f"{key}: {str(cause).splitlines()[0]}"
        return f"{key}: there is no such option.{nearest(key, keys(config_dir))}"
    missing = re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text) or re.search(
        r"Could not find '([^']+)/([^'/]+)'", text
    )
    if missing:
        group, name = missing.groups()
        options = choices(group, config_dir)
        return f"{group}: {name!r} is not one of {', '.join(options)}.{nearest(name, options)}"
    group = re.search(r"Could not override '?([\w/]+)'?\.?\s+No match in the defaults list", text)
    if group:
        return f"{group.group(1)}: there is no such option.{nearest(group.group(1), [*GROUPS, *keys(config_dir)])}"
    key = getattr(error, "full_key", None)
    return f"{key}: {text.splitlines()[0]}" if key else text.splitlines()[0]


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
