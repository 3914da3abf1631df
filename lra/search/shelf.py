"""What was measured, kept: a file a block in `<results>/search/<task>`, written once and whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lra.console import line
from lra.machine import facts
from lra.record import checks, store
from lra.record.content import MIB, content
from lra.record.record import digest_of
from lra.search.space import Point, Shape, Space
from lra.settings import build, identity

SCHEMA = 1
LARGEST = 64 * MIB
CONDITIONS = ("device", "name", "threads")  # of the machine: another one's times say nothing of this one's
SIZES = ("depth", "dim", "heads", "length", "peak_bytes")  # of a point, above 0
COUNTS = ("parameters", "resident_bytes")
COUNTED = ("flops", "written", "ops", "stack_parameters", "resident")  # null where the model cannot be counted


def folder(results: Path, task: str) -> Path:
    return results / "search" / task


def keys(space: Space, lengths: Sequence[int]) -> dict[Point, str]:
    """Of each point of a space 16 hex digits over its model's name and what shapes its cost: the model's settings, the
    length, the task's words and classes."""
    out = {}
    for model, settings in space.models.items():
        exam = build.task(settings)
        own = [exam.vocab_size, exam.num_classes, exam.documents, exam.answers, dict(settings.sources)]
        for shape in (Shape(model, *sizes) for sizes in space.sizes):
            node = identity.essential(space.node(shape), "model.")
            out |= {Point(shape, length): identity.digest([model, node, own, length]) for length in lengths}
    return out


def write(results: Path, task: str, keys: Sequence[str], points: Sequence[Point], found: Mapping[str, Any]) -> Path:
    """A block, for good. found: as lra.search.bench.block gives it."""
    started, run_id = store.new_id()
    commit, dirty = facts.commit()
    rows = [
        {"key": k, **p.shape._asdict(), "length": p.length, **row, "reason": row["reason"] and line(row["reason"])}
        for k, p, row in zip(keys, points, found["points"], strict=True)
    ]
    raw = {
        "schema": SCHEMA,
        "id": run_id,
        "written_utc": started,
        "task": task,
        "batch_size": 1,
        **{k: found.get(k) for k in ("machine", "dtype", "conditions")},
        "versions": facts.versions(),
        "commit": commit,
        "dirty": dirty,
        "points": rows,
    }
    raw = json.loads(json.dumps(raw, allow_nan=False))
    text = json.dumps(raw | {"digest": digest_of(raw)}, indent=1, allow_nan=False) + "\n"
    return store.write_once(folder(results, task) / f"{run_id}.json", text.encode())


def read(results: Path, task: str, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of all blocks, oldest first, each with its block's `machine` and `dtype`. told: of each file that is none,
    or was changed, and is passed over."""
    rows = []
    for path in sorted(p for p in folder(results, task).glob("*.json") if not p.name.startswith(".")):
        try:
            raw = _opened(path)
        except (ValueError, RecursionError) as error:
            told(f"passed over: {path}: {error}")
            continue
        rows += [row | {k: raw[k] for k in ("machine", "dtype")} for row in raw["points"]]
    return rows


def _opened(path: Path) -> dict[str, Any]:
    """Raises ValueError for what is no block of ours."""
    raw = json.loads(content(path, LARGEST).decode(), parse_constant=_no_number)
    if type(raw) is not dict or raw.get("schema") != SCHEMA or type(raw.get("points")) is not list:
        raise ValueError(f"not a block of measurements of schema {SCHEMA}")
    if raw.get("digest") != digest_of(raw):
        raise ValueError("was changed after it was written")
    if type(raw.get("machine")) not in (dict, type(None)) or type(raw.get("dtype")) not in (str, type(None)):
        raise ValueError("has conditions that are none")
    if not all(map(_good, raw["points"])):
        raise ValueError("has a point that is none")
    return raw


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _good(row: Any) -> bool:
    """Has a row what is read of it? A digest shows an edit, and not who wrote."""
    if type(row) is not dict or not all(checks.line(row.get(k)) for k in ("key", "status")):
        return False
    if row["status"] != "ok":
        return checks.line(row.get("reason"))
    times, paces = (row.get("seconds"), row.get("core_seconds")), row.get("paces")
    lists = [*times, *([] if paces is None else [paces])]
    return (
        all(type(v) is list and len(v) > 1 and all(checks.number(n) and n > 0 for n in v) for v in lists)
        and len({len(v) for v in lists}) == 1
        and all(checks.whole(row.get(k)) and row[k] > 0 for k in SIZES)
        and all(checks.whole(row.get(k)) and row[k] >= 0 for k in COUNTS)
        and all(row.get(k) is None or (checks.whole(row[k]) and row[k] >= 0) for k in COUNTED)
    )


def here(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], dtype: str) -> list[Mapping[str, Any]]:
    """Those measured under these conditions."""
    return [
        r
        for r in rows
        if r["dtype"] == dtype and r["machine"] and all(r["machine"].get(k) == machine.get(k) for k in CONDITIONS)
    ]
