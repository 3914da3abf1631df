"""One line for a bad word: what the user should know of an error of Hydra's or OmegaConf's."""

from __future__ import annotations

import re
from typing import Any

from lra.errors import UserError, nearest
from lra.settings.words import GROUPS, choices, keys, unknown


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
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several.group(1)}: several values are a sweep: python -m lra -m {several.group(1)}"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        key = text.removeprefix("Error merging override").split("=")[0].strip(" +~")
        return f"{key}: {str(error.__cause__).splitlines()[0]}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        key = override.group(1)
        cause = error.__cause__
        if cause is not None and "not in struct" not in str(cause) and "not in '" not in str(cause):
            return f"{key}: {str(cause).splitlines()[0]}"
        return unknown(key, keys(config_dir))
    missing = re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text) or re.search(
        r"Could not find '([^']+)/([^'/]+)'", text
    )
    if missing:
        group, name = missing.groups()
        options = choices(group, config_dir)
        return f"{group}: {name!r} is not one of {', '.join(options)}.{nearest(name, options)}"
    group = re.search(r"Could not override '?([\w/]+)'?\.?\s+No match in the defaults list", text)
    if group:
        return unknown(group.group(1), [*GROUPS, *keys(config_dir)])
    key = getattr(error, "full_key", None)
    return f"{key}: {text.splitlines()[0]}" if key else text.splitlines()[0]
