"""A derived record: the process that makes one is started and asked for turns, and whatever becomes of it is written.

From Python: lra.derive.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lra.console import line
from lra.errors import UserError
from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.measure.cost import LEAST_STEPS, Limits
from lra.measure.session import Session, quiet
from lra.record import store
from lra.record.checks import LONGEST_LINE
from lra.record.place import writable
from lra.record.record import Record
from lra.record.reserve import ANSWERS, WEIGHTS
from lra.runner.rescue import written
from lra.settings import build
from lra.settings.schema import Settings
from lra.settings.typed import plain
from lra.treat.asked import Asked
from lra.treat.known import known

TURN = Limits(20, 0.15, 1)  # of each model and batch size in a round
MOST = 40  # rounds
DAY = 86400.0  # seconds that all may take, of a parent without a bound of its own


class Treating(Session):
    """A child that treats a model; its config is lra.treat.child.Work as a mapping."""

    module = "lra.treat.child"


def once(asked: Asked) -> tuple[Record, Path, bool]:
    """The record that is there already, or the one that doing it leaves; where; and whether it was there."""
    found = known(asked)
    return (found[1], found[0], True) if found is not None else (*derived(asked), False)


def derived(asked: Asked) -> tuple[Record, Path]:
    """Treat, measure, test; the record that is left, and where. Raises UserError where nothing can be begun."""
    settings = asked.settings
    exam = build.task(settings)
    r = asked.parent.sheet.record
    if exam.fingerprint() != r.data.get("fingerprint"):
        raise UserError(f"record: {r.run_id} was tested on other data ({r.data.get('fingerprint')}) than are here")
    writable("results_dir", Path(settings.results_dir))
    started, run_id = store.new_id()
    begin = time.perf_counter()
    folder = store.folder(Path(settings.results_dir), r.task, r.model)
    keep = folder / f"{run_id}{WEIGHTS}"
    found = answer(asked, run_id, keep, exam.vocabulary)
    seconds = {"total": round(time.perf_counter() - begin, 3)}
    fields = {"run_id": run_id, "started_utc": started, "wall_seconds": seconds} | conditions(settings)
    return found_in(asked, found, fields, keep)


def conditions(settings: Settings) -> dict[str, Any]:
    """Of a failure too: by them it is known not to be tried again."""
    device = resolve_device(settings.device)
    threads = {"threads": settings.threads} if settings.threads is not None else {}
    return {"machine": facts.machine(device) | threads, "dtype": resolve_dtype(settings.dtype, device)}


def answer(asked: Asked, run_id: str, keep: Path, vocabulary: str) -> dict[str, Any]:
    """What the process says, or what is known of why it says nothing."""
    settings, parent = asked.settings, asked.parent
    work = {
        "settings": plain(settings),
        "weights": str(parent.root.weights),
        "steps": [(s.record.treatment["settings"], str(s.weights) if _there(s) else None) for s in parent.line[1:]],
        "new": plain(asked.option.node),
        "predictions": str(parent.sheet.predictions),
        "keep": str(keep) if settings.keep == "best" else None,
        "facts": {"run_id": run_id, "vocabulary": vocabulary},
    }
    with Treating(work, settings.run.timeout or DAY) as session:
        if session.prepare():
            with quiet(plain(settings)):
                turns(session, settings.measure.seconds)
        lost = session.lost()
        return session.answer if lost is None else {"status": lost.status, "reason": lost.reason}


def _there(sheet: Any) -> bool:
    return sheet.weights is not None and sheet.weights.is_file()


def turns(session: Session, seconds: float) -> None:
    """Rounds for so many seconds, but no fewer than an interval asks for."""
    begin, done = time.monotonic(), 0
    while done < LEAST_STEPS or (done < MOST and time.monotonic() - begin < seconds):
        if not session.turn(TURN):
            return
        done += 1


def found_in(asked: Asked, found: Mapping[str, Any], fields: dict[str, Any], keep: Path) -> tuple[Record, Path]:
    """The record, written: what lies beside it first."""
    settings, name = asked.settings, fields["run_id"]
    answers = base64.b64decode(found["answers"]) if found["status"] == "ok" else None

    def made(stored: bool) -> Record:
        digest = {"file": f"{name}{ANSWERS}", "sha256": hashlib.sha256(answers or b"").hexdigest()}
        items = found["fields"]["items_test"] if stored else None
        return record(asked, found, fields | {"predictions": digest | {"items": items} if stored else None})

    def write(results: Path) -> Path:
        entry = made(answers is not None)
        folder = store.folder(results, entry.task, entry.model)
        if answers is not None:
            store.write_once(folder / f"{name}{ANSWERS}", answers)
        if entry.kept is not None and keep.parent != folder:
            store.write_once(folder / keep.name, keep.read_bytes())
        return store.write(results, entry)

    path = written(settings, write, lambda: json.dumps(asdict(made(answers is not None))))
    if found["status"] != "ok":
        keep.unlink(missing_ok=True)
    return store.read(path), path


def record(asked: Asked, found: Mapping[str, Any], fields: Mapping[str, Any]) -> Record:
    """Of the parent what names the run, of the answer what it found; what training would fill in stays null."""
    r = asked.parent.sheet.record
    commit, dirty = facts.commit()
    reason = found.get("reason")
    return Record(
        kind="derived",
        status=found["status"],
        reason=None if reason is None else line(reason)[:LONGEST_LINE],
        task=r.task,
        model=r.model,
        budget=r.budget,
        row=r.row,
        seed=r.seed,
        config=r.config,
        config_hash=asked.config_hash,
        variant=list(r.variant),
        data=r.data,
        length=r.length,
        batch_size=asked.settings.measure.batch_size or asked.settings.train.batch_size,
        versions=facts.versions(),
        commit=commit,
        dirty=dirty,
        parent=r.run_id,
        treatment=asked.said,
        derived=found.get("derived", {}),
        **{**fields, **found.get("fields", {})},
    )
