"""Between plain values and typed settings, and what Hydra is told of the types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_args

from lra.errors import UserError
from lra.settings.schema import COMPUTED, Settings, types_of
from lra.settings.words import unknown


def leaves(schema: type = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, default) of every field that holds a value; a mapping counts as one."""
    hints = types_of(schema)
    for f in fields(schema):
        if is_dataclass(hints[f.name]):
            yield from leaves(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f.default if f.default is not MISSING else f.default_factory()


def typed(values: Mapping[str, Any], schema: type = Settings, prefix: str = "") -> Any:
    """A frozen object of plain, resolved values. UserError for a key that the schema does not have."""
    hints = types_of(schema)
    given = {}
    for key, value in values.items():
        if key not in hints:
            raise UserError(unknown(prefix + key, [n for n, _ in leaves()]))
        hint = hints[key]
        if is_dataclass(hint):
            value = typed(value, hint, f"{prefix}{key}.")
        elif isinstance(value, list) and getattr(hint, "__origin__", None) is tuple:
            value = tuple(value)
        given[key] = value
    return schema(**given)


def plain(value: Any) -> Any:
    """Settings, or a part of them, as dicts, lists, strings and numbers, as a record holds them."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@cache
def _open(schema: type) -> type:
    """The same fields in a class that can be written to and that Hydra takes: it merges into such."""

    def hydras(hint: Any) -> Any:
        if is_dataclass(hint):
            return _open(hint)
        origin = getattr(hint, "__origin__", None)
        if origin is tuple:
            return list[get_args(hint)[0]]
        return dict[get_args(hint)] if origin is Mapping else hint

    made, hints = [], types_of(schema)
    for f in fields(schema):
        if schema is Settings and f.name in COMPUTED:
            continue
        hint = hydras(hints[f.name])
        default = f.default if f.default is not MISSING else f.default_factory()
        if is_dataclass(hint):
            made.append((f.name, hint, field(default_factory=hint)))
        elif isinstance(default, (tuple, dict)):
            made.append(
                (f.name, hint, field(default_factory=lambda d=default: list(d) if isinstance(d, tuple) else {}))
            )
        else:
            made.append((f.name, hint, field(default=default)))
    return make_dataclass(schema.__name__, made)


@cache
def register() -> None:
    """Make the types known to Hydra as the config `settings`, so that it refuses values of a wrong type."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="settings", node=_open(Settings))
