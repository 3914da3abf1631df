"""A record opened: the only place that reads one."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from lra.record.record import SCHEMA, STATUSES, Record


def read(path: str | Path) -> Record:
    """Load a record of this or an older schema. Raises ValueError naming the file.

    Fields that a newer schema added are taken at their defaults; fields unknown here are refused
    only if the record says it is of this schema or older, because then the file is wrong.
    """
    try:
        raw = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a record ({error})") from error
    known = {f.name for f in fields(Record)}
    if not isinstance(raw, dict) or "schema" not in raw or "status" not in raw:
        raise ValueError(f"{path}: not a record (no schema or status)")
    unknown = set(raw) - known
    if unknown and raw["schema"] <= SCHEMA:
        raise ValueError(f"{path}: unknown fields {', '.join(sorted(unknown))}")
    if raw["status"] not in STATUSES:
        raise ValueError(f"{path}: status {raw['status']!r} is not one of {', '.join(STATUSES)}")
    try:
        return Record(**{k: v for k, v in raw.items() if k in known})
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
