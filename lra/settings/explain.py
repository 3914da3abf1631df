"""One line for a bad word: what the user should know of an error of Hydra's or OmegaConf's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lra.errors import UserError, nearest
from lra.settings.files import file_of, line_of, unreadable
from lra.settings.words import GROUPS, choices, keys, unknown

MOST = 400  # letters of a list of names


class explained:
    """Turn Hydra's and OmegaConf's errors into one line that names the nearest alternatives."""

    def __init__(self, config_dir: str | None = None) -> None:
        self.config_dir = config_dir

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
        from yaml import MarkedYAMLError, YAMLError

        if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
            mark = error.problem_mark
            raise UserError(f"{mark.name}:{mark.line + 1}: {error.problem}; this is no YAML") from error
        if isinstance(error, (YAMLError, UnicodeDecodeError)):
            raise UserError(unreadable(self.config_dir) or " ".join(str(error).split())) from error
        if isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
            raise UserError(one_line(error, self.config_dir)) from error


def one_line(error: BaseException, config_dir: str | None = None) -> str:
    """What the user should know of a Hydra or OmegaConf error."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        options = sorted(error.options)
        return no_file(group, name, options)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is not an option; write key=value, for instance task=listops or train.steps=100"
    text = str(error)
    composed = re.match(r"In '([^']+)': (.*)", text, re.DOTALL)
    if composed and (line := _in_file(composed[1], composed[2], config_dir)):
        return line
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{several.group(1)}: several values are a sweep: python -m lra -m {several.group(1)}"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        key, _, value = text.removeprefix("Error merging override").splitlines()[0].strip(" +~").partition("=")
        return f"{key}: {value} is not allowed ({str(error.__cause__).splitlines()[0]})"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        key = override.group(1)
        cause = error.__cause__ or error.__context__
        if cause is not None and "not in struct" not in str(cause) and "not in '" not in str(cause):
            return f"{key}: {str(cause).splitlines()[0]}"
        return unknown(key, keys(config_dir))
    missing = re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text) or re.search(
        r"Could not find '([^']+)/([^'/]+)'", text
    )
    if missing:
        group, name = missing.groups()
        options = choices(group, config_dir)
        return no_file(group, name, options)
    group = re.search(r"Could not override '?([\w/]+)'?\.?\s+No match in the defaults list", text)
    if group:
        return unknown(group.group(1), [*GROUPS, *keys(config_dir)])
    if lost := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{getattr(error, 'full_key', None)}: ${{{lost[1]}}} is none of the settings.{nearest(lost[1], keys())}"
    key = getattr(error, "full_key", None)
    return f"{key}: {text.splitlines()[0]}" if key else text.splitlines()[0]


def no_file(group: str, name: str, options: Sequence[str]) -> str:
    """What to say where a group has no file of that name. More than fit a line or two are listed by a command."""
    listed = ", ".join(options)
    if len(listed) > MOST:
        listed = f"the {len(options)} that python -m lra.list {group}s lists"
    return f"{group}: {name!r} is not one of {listed}.{nearest(name, options)}"


def _in_file(config: str, said: str, config_dir: str | None) -> str | None:
    """What is wrong in a file that Hydra merges: file, line, key, and what is allowed there."""
    path = file_of(config, config_dir)
    if path is None:
        return None
    first, *rest = said.splitlines()
    if not first.endswith("raised while composing config:"):
        return f"{path}: {first}"
    first = rest[0] if rest else first
    found = re.search(r"full_key: (\S+)", said)
    key = found[1] if found else ""
    line = line_of(path, key) if key else None
    where = f"{path}:{line}" if line else str(path)
    if "not in struct" in first or re.match(r"Key '[^']*' not in", first):
        return f"{where}: {unknown(key, keys(config_dir))}"
    return f"{where}: {key + ': ' if key else ''}{first}"
