"""What is recorded already, and so need not be done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import store
from lra.record.record import FINAL, OUTSIDE, Record
from lra.settings import build, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain


class Known(Exception):
    """A run that has its record."""

    def __init__(self, path: Path, record: Record) -> None:
        super().__init__(path)
        self.path, self.record = path, record


def known(settings: Settings) -> tuple[Path, Record] | None:
    """The record for whose sake the run need not be done, as `rerun` has it, and where it lies; or None."""
    found = None if settings.rerun == "all" else already(settings)
    return None if found is not None and settings.rerun == "failed" and found[1].status != "ok" else found


def already(settings: Settings) -> tuple[Path, Record] | None:
    """The record that the same command would only repeat, or None.

    Same experiment, seed and data; made under the conditions asked for; a status that is final.
    """
    wanted, here = identity.identity(plain(settings)), None
    candidates = [
        (path, r)
        for path, r in store.find(settings.results_dir, settings.choices.task, settings.choices.model)
        if r.kind == "model"
        and r.status in (*FINAL, "failed")
        and r.seed == settings.seed
        and identity.identity(r.config) == wanted
        and meets(r, settings)
    ]
    if any(r.status == "failed" for _, r in candidates):
        here = {"commit": facts.commit()[0], "versions": facts.versions()}
        candidates = [c for c in candidates if concluded(c[1], here)]
    if not candidates:
        return None
    fingerprint = build.task(settings).fingerprint()
    return next((c for c in reversed(candidates) if c[1].data.get("fingerprint") == fingerprint), None)


def concluded(r: Record, here: Mapping[str, Any]) -> bool:
    """Would the same command only repeat it? A failure by itself that was met by this very code, and is no kill
    from outside. here: the commit and the versions of what would run now."""
    if r.status != "failed":
        return r.status in FINAL
    same = r.commit == here["commit"] and dict(r.versions) == here["versions"] and not r.dirty
    return same and r.signal not in OUTSIDE


def meets(r: Record, settings: Settings) -> bool:
    """Was a run made under the conditions asked for? Device and precision as they resolve here; threads
    where a number of them is asked for; the rest as configured."""
    device = resolve_device(settings.device)
    if r.machine.get("device") != device or r.dtype != resolve_dtype(settings.dtype, device):
        return False
    if settings.threads is not None and r.machine.get("threads") != settings.threads:
        return False
    return not identity.conditions_differ(r.config, settings)
