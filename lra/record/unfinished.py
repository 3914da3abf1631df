"""What lies below `results_dir/unfinished`: of each run without a record its claims and its newest states, a JSON file
and the tensors beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lra.record.store import replace

LIMIT = 64 * 2**20  # bytes of what stands beside the tensors


class Broken(ValueError):
    """Files that hold no state."""


def states(place: Path) -> list[Path]:
    """Of a run's folder, the newest first: by who wrote them, then by step."""
    found = []
    with suppress(OSError):
        for path in place.iterdir():
            if m := re.fullmatch(r"state-(\d{1,9})-(\d{1,12})\.json", path.name):
                found.append(((int(m[1]), int(m[2])), path))
    return [path for _, path in sorted(found, reverse=True)]


def generation(path: Path) -> int:
    """Of the claim under which a state was written."""
    return int(path.name.split("-")[1])


def write(path: Path, about: Mapping[str, Any], tensors: bytes) -> None:
    """`path`, JSON with what the state belongs to, and beside it the tensors; whole before they bear their names.

    Raises OSError if they cannot be written.
    """
    beside = path.with_suffix(".safetensors")
    said = {**about, "tensors": beside.name, "sha256": hashlib.sha256(tensors).hexdigest()}
    text = json.dumps(said, allow_nan=False)
    replace(beside, tensors)
    replace(path, text.encode())


def about(path: Path) -> dict[str, Any]:
    """What stands beside the tensors. Raises Broken if it cannot be read."""
    try:
        with path.open("rb") as handle:
            found = json.loads(handle.read(LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise Broken(f"{path.name} cannot be read") from error
    if not isinstance(found, dict) or not isinstance(found.get("facts"), dict):
        raise Broken(f"{path.name} holds no state")
    return found


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """What a state belongs to, and its tensors. Raises Broken unless both files are as they were written."""
    found = about(path)
    try:
        content = path.with_suffix(".safetensors").read_bytes()
    except OSError as error:
        raise Broken(f"{path.name}: its tensors cannot be read") from error
    if hashlib.sha256(content).hexdigest() != found.get("sha256"):
        raise Broken(f"{path.name}: its tensors are not those that were written")
    return found, content


def remove(path: Path) -> None:
    for part in (path, path.with_suffix(".safetensors")):
        with suppress(OSError):
            part.unlink(missing_ok=True)


def left(results_dir: Path) -> list[dict[str, Any]]:
    """A row for each run that was stopped: what it is, its folder `place`, `step` of `steps`, and the last accuracy
    on valid, null where there is none."""
    rows = []
    for place in sorted((results_dir / "unfinished").glob("*")):
        for path in states(place):
            with suppress(Broken):
                said = about(path)
                facts = said["facts"]
                row = {k: said.get(k) for k in ("task", "model", "seed", "budget", "row", "steps")}
                rows.append(row | {"place": place, "step": facts.get("steps_done"), "accuracy_valid": _last(facts)})
                break
    return rows


def _last(facts: Mapping[str, Any]) -> float | None:
    curve = facts.get("curve")
    last = curve[-1] if isinstance(curve, list) and curve else None
    return last.get("valid_accuracy") if isinstance(last, dict) else None
