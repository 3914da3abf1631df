"""Where the data of the tasks are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.settings import build, compose
from lra.settings.words import choices


def tasks(words: Sequence[str], default: str | None = None, folder: str | None = None) -> list[tuple[str, Any]]:
    """(name, task) of the tasks that words such as "task=text,image key=value" choose. No data are touched."""
    asked = [w.partition("=")[2] for w in words if w.startswith("task=")] or ([default] if default else [])
    if not asked:
        raise UserError(f"prepare: say which task, task=all or one of {', '.join(choices('task', folder))}")
    names = choices("task", folder) if asked[-1] == "all" else asked[-1].split(",")
    rest = [w for w in words if not w.startswith("task=")]
    # budget=paper: the exam's own data, not the short ones of quick.
    budget = [] if any(w.startswith("budget=") for w in rest) else ["budget=paper"]
    return [(name, build.task(compose.config([f"task={name}", *budget, *rest], folder))) for name in names]


def described(exam: Any) -> dict[str, Any]:
    """`describe()` of a task, complete: source, found (a path, True for nothing needed, or None),
    bytes, licence, how."""
    facts: dict[str, Any] = {"source": "-", "found": None, "bytes": None, "licence": "-", "how": "-"}
    try:
        facts |= exam.describe() if hasattr(exam, "describe") else {}
    except (ValueError, OSError) as error:
        facts["how"] = str(error)
    if isinstance(facts["found"], (str, Path)):
        facts["found"] = Path(facts["found"])
        if facts["bytes"] is None:
            facts["bytes"] = occupied(facts["found"])
    return facts


def occupied(path: Path) -> int:
    """Bytes of a file, or of all files below a folder that can be looked at; a link to a folder is not followed."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(folder, name).stat().st_size
    return total


def columns(rows: Sequence[Sequence[str]]) -> str:
    """All columns to the left, the first row a heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
