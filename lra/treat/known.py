"""The derived record that is there already, so that a command that was stopped goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lra.machine import facts
from lra.record import store
from lra.record.record import FINAL, Record
from lra.record.sheet import Damaged, opened
from lra.runner.bounds import final
from lra.runner.known import Entry, code, concluded, meets
from lra.treat.asked import Asked


def known(asked: Asked) -> tuple[Path, Record] | None:
    """The newest record of the same treatment of the same parent, made under the conditions asked for, that doing it
    again would only repeat, as `rerun` has it; or None."""
    settings, r = asked.settings, asked.parent.sheet.record
    if settings.rerun == "all":
        return None
    wanted, sources = asked.config_hash, asked.said["sources"]
    for path in reversed(store.paths(settings.results_dir, r.task, r.model)):
        try:
            found = opened(path).record
        except Damaged:
            continue
        if (found.kind, found.parent, found.config_hash) != ("derived", r.run_id, wanted):
            continue
        if found.treatment.get("sources") == sources and _holds(asked, path, found):
            return None if settings.rerun == "failed" and found.status != "ok" else (path, found)
    return None


def _holds(asked: Asked, path: Path, found: Record) -> bool:
    entry = Entry.of(path, found)
    if found.derived.get("not_kept"):  # nor would they be another time
        entry = replace(entry, kept=True)
    if entry.status not in (*FINAL, "timeout", "failed") or not final(entry.status, entry.bound, asked.settings):
        return False
    if not meets(entry, asked.settings):
        return False
    return entry.status != "failed" or concluded(entry, code(*facts.commit(), facts.versions()))
