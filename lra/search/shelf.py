"""What was measured, kept: a file a block in `<results>/search/<task>`, written once and whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lra.machine import facts
from lra.record import store
from lra.record.record import digest_of
from lra.search.space import Point, Shape, Space
from lra.settings import build, identity

SCHEMA = 1
LARGEST = 2**26  # bytes of a file that is read
CONDITIONS = ("device", "name", "threads")  # of the machine: another one's times say nothing of this one's
COUNTS = ("parameters", "stack_parameters", "flops", "written", "ops", "peak_bytes", "resident_bytes")


def folder(results: Path, task: str) -> Path:
    return results / "search" / task


def keys(space: Space, lengths: Sequence[int]) -> dict[Point, str]:
    """Of each point of a space 16 hex digits over what shapes its cost: the model, the length, the task's words and
    classes."""
    out = {}
    for model, settings in space.models.items():
        exam = build.task(settings)
        own = [exam.vocab_size, exam.num_classes, exam.documents, exam.answers, dict(settings.sources)]
        for shape in (Shape(model, *sizes) for sizes in space.sizes):
            node = identity.essential(space.node(shape), "model.")
            out |= {Point(shape, length): identity.digest([node, own, length]) for length in lengths}
    return out


def write(results: Path, task: str, keys: Sequence[str], points: Sequence[Point], found: Mapping[str, Any]) -> Path:
    """A block, for good. found: as lra.search.bench.block gives it."""
    started, run_id = store.new_id()
    commit, dirty = facts.commit()
    rows = [
        {"key": k, **p.shape._asdict(), "length": p.length, **row}
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
        except (OSError, ValueError, RecursionError) as error:
            told(f"passed over: {path}: {error}")
            continue
        rows += [row | {k: raw[k] for k in ("machine", "dtype")} for row in raw["points"]]
    return rows


def _opened(path: Path) -> dict[str, Any]:
    """Raises ValueError for what is no block of ours."""
    if path.stat().st_size > LARGEST:
        raise ValueError("not a block of measurements (too large)")
    raw = json.loads(path.read_bytes().decode(), parse_constant=_no_number)
    if type(raw) is not dict or raw.get("schema") != SCHEMA or type(raw.get("points")) is not list:
        raise ValueError(f"not a block of measurements of schema {SCHEMA}")
    if raw.get("digest") != digest_of(raw):
        raise ValueError("was changed after it was written")
    if not all(map(_good, raw["points"])):
        raise ValueError("has a point that is none")
    return raw


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _good(row: Any) -> bool:
    """Has a row what is read of it?"""
    if type(row) is not dict or type(row.get("key")) is not str or type(row.get("status")) is not str:
        return False
    if row["status"] != "ok":
        return True
    numbers = [*(row.get(k) for k in ("depth", "dim", "heads", "length", "parameters", "peak_bytes", "resident_bytes"))]
    times, paces = row.get("seconds"), row.get("paces")
    good = type(times) is list and bool(times) and all(type(t) in (int, float) and 0 < t < math.inf for t in times)
    paced = paces is None or (type(paces) is list and len(paces) == len(times or ()) and all(p > 0 for p in paces))
    return good and paced and all(type(n) is int and n >= 0 for n in numbers)


def here(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], dtype: str) -> list[Mapping[str, Any]]:
    """Those measured under these conditions."""
    return [
        r
        for r in rows
        if r["dtype"] == dtype and r["machine"] and all(r["machine"].get(k) == machine.get(k) for k in CONDITIONS)
    ]
