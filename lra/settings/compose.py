"""From the command line's words to settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.root import CONFIGS
from lra.settings.explain import explained
from lra.settings.identity import variant
from lra.settings.schema import checked, register


def config(overrides: Sequence[str], config_dir: str | None = None) -> Any:
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


def plain(cfg: Any) -> dict[str, Any]:
    """The configuration as dicts, lists, strings and numbers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


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
