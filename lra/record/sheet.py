"""A record opened: the only module that reads one. What it hands on can be trusted by all that is above.

A record of this or of any older schema loads for ever. One that is damaged is refused in one line that names
the file, the field, its value and what is allowed; it costs its own cell and no table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from lra.errors import UserError
from lra.record.checks import FIELDS, INSIDE, STEP
from lra.record.content import MIB, content
from lra.record.record import SCHEMA, Record, digest_of

LARGEST = 64 * MIB
KNOWN = frozenset(name for name, _ in FIELDS)
REQUIRED = frozenset(f.name for f in fields(Record) if f.default is MISSING and f.default_factory is MISSING)
SHOWN = 60  # characters of a bad value


class Damaged(UserError, ValueError):
    """A file that is no record. `said`: the message without the path."""

    def __init__(self, path: str | Path, said: str) -> None:
        super().__init__(f"{path}: {said}")
        self.path, self.said = Path(path), said


@dataclass(frozen=True, slots=True)
class Sheet:
    """raw: the record as it stands in its file."""

    path: Path
    record: Record
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def edited(self) -> bool:
        """Was it changed after it was written: does it not have the digest it names? It is shown and marked,
        because whoever edits a record may have his reasons and a reader must know. Worked out when asked for."""
        try:
            return self.record.schema >= 2 and self.record.digest != digest_of(self.raw)
        except (ValueError, RecursionError):  # it holds 1e999 or the like, which is never written
            return True

    @property
    def predictions(self) -> Path | None:
        """Where the stored predictions lie, if there are any; always in the record's own folder."""
        stored = self.record.predictions
        return self.path.parent / stored["file"] if stored else None

    @property
    def weights(self) -> Path | None:
        """Where the kept weights lie, if any were; in the record's own folder too."""
        return self.path.parent / self.record.kept["file"] if self.record.kept else None


def opened(path: str | Path) -> Sheet:
    """The record in a file, checked. Raises Damaged."""
    path = Path(path)
    raw = _raw(path)
    if wrong := problem(raw):
        raise Damaged(path, wrong)
    return Sheet(path, Record(**raw), raw)


def read(path: str | Path) -> Record:
    """The record in a file. Raises Damaged, which is a ValueError, naming the file."""
    return opened(path).record


def _raw(path: Path) -> Any:
    try:
        return json.loads(content(path, LARGEST).decode(), parse_constant=_no_number)
    except RecursionError as error:
        raise Damaged(path, "not a record (nested too deeply)") from error
    except ValueError as error:  # JSON and Unicode errors are such
        raise Damaged(path, f"not a record ({error})") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number; allowed finite numbers and null")


def problem(raw: Any) -> str | None:
    """What is wrong with a record as read: the first field that is not of its type or out of range."""
    if type(raw) is not dict or "schema" not in raw or "status" not in raw:
        return "not a record (no schema or status)"
    schema = raw["schema"]
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        return f"schema {_shown(schema)}; allowed 1 to {SCHEMA}"
    if len(raw) > len(KNOWN) or not raw.keys() <= KNOWN:
        return f"unknown fields {', '.join(sorted(map(_bare, raw.keys() - KNOWN)))[:SHOWN]}"
    for name, check in FIELDS:
        if name in raw:
            if not check.good(raw[name]):
                return f"{name} {_shown(raw[name])}; allowed {check.words}"
        elif schema == SCHEMA or name in REQUIRED:
            return f"{name} is missing"
    for name, inside in INSIDE.items():
        if (node := raw.get(name)) and (wrong := _inside(node, inside, name)):
            return wrong
    for point in raw.get("curve", ()):
        if wrong := _inside(point, STEP, "curve"):
            return wrong
    return _together(raw)


def _inside(node: Mapping[str, Any], checks: Mapping[str, Any], path: str) -> str | None:
    for key, check in checks.items():
        if key not in node:
            continue
        value = node[key]
        if type(check) is dict:
            if value is None:
                continue
            if type(value) is not dict:
                return f"{path}.{key} {_shown(value)}; allowed a mapping"
            if value and (wrong := _inside(value, check, f"{path}.{key}")):
                return wrong
        elif not check.good(value):
            return f"{path}.{key} {_shown(value)}; allowed {check.words}"
    return None


def _together(raw: Mapping[str, Any]) -> str | None:
    """What is wrong with fields beside one another."""
    if any("step" not in point for point in raw.get("curve", ())):
        return "curve has a point without its step"
    for name in ("predictions", "kept"):
        if (stored := raw.get(name)) and "file" not in stored:
            return f"{name}.file is missing; allowed the name of a file beside the record"
    cost = raw.get("cost") or {}
    for phase in ("train", "inference"):
        times = cost.get(phase) or {}
        if times.get("paces") and len(times["paces"]) != len(times.get("seconds") or ()):
            return f"cost.{phase}.paces are {len(times['paces'])}; allowed one for each of cost.{phase}.seconds"
    return None


def _bare(key: str) -> str:
    """A key as a line can hold it."""
    return json.dumps(key)[1:-1]


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
