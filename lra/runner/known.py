"""What is recorded already, and so need not be done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra.machine import facts
from lra.machine.device import resolve_device, resolve_dtype
from lra.record import store
from lra.record.record import FINAL, OUTSIDE, Record
from lra.runner.bounds import bound_of, final
from lra.settings import build, identity
from lra.settings.schema import Settings
from lra.settings.typed import plain


class Known(Exception):
    """A run that has its record."""

    def __init__(self, path: Path, record: Record) -> None:
        super().__init__(path)
        self.path, self.record = path, record


@dataclass(frozen=True, slots=True)
class Entry:
    """Of a record what tells whether a run would only repeat it; of twenty thousand they fit into memory."""

    path: Path
    identity: str
    seed: int
    status: str
    signal: int | None
    device: str | None
    dtype: str | None
    threads: int | None
    conditions: tuple[Any, ...]
    code: tuple[Any, ...]  # empty of a status that holds for any
    fingerprint: str | None
    bound: float | None
    kept: bool

    @classmethod
    def of(cls, path: Path, r: Record) -> Entry:
        machine = r.machine
        return cls(
            path,
            identity.identity(r.config),
            r.seed,
            r.status,
            r.signal,
            machine.get("device"),
            r.dtype,
            machine.get("threads"),
            identity.conditions(r.config),
            code(r.commit, r.dirty, r.versions) if r.status == "failed" else (),
            r.data.get("fingerprint"),
            bound_of(r),
            r.kept is not None,
        )


class Shelf:
    """The records of models below a results folder, each opened once, however often it is asked."""

    def __init__(self) -> None:
        self.seen: dict[Path, Entry | None] = {}

    def entries(self, settings: Settings) -> list[Entry]:
        """Those of the task and model of a run, oldest first. Raises lra.record.sheet.Damaged at one that is none."""
        found = []
        for path in store.paths(settings.results_dir, settings.choices.task, settings.choices.model):
            if path not in self.seen:
                r = store.read(path)
                self.seen[path] = Entry.of(path, r) if r.kind == "model" else None
            found.append(self.seen[path])
        return [entry for entry in found if entry is not None]


def known(settings: Settings, shelf: Shelf | None = None) -> tuple[Path, Record] | None:
    """The record for whose sake the run need not be done, as `rerun` has it, and where it lies; or None."""
    found = None if settings.rerun == "all" else already(settings, shelf)
    return None if found is not None and settings.rerun == "failed" and found[1].status != "ok" else found


def already(settings: Settings, shelf: Shelf | None = None) -> tuple[Path, Record] | None:
    """The record that the same command would only repeat, or None.

    Same experiment, seed and data; made under the conditions asked for; a status that is final for these bounds.
    """
    wanted = identity.identity(plain(settings))
    candidates = [
        e
        for e in (shelf or Shelf()).entries(settings)
        if e.status in (*FINAL, "timeout", "failed") and final(e.status, e.bound, settings)
        if e.seed == settings.seed and e.identity == wanted and meets(e, settings)
    ]
    if any(e.status == "failed" for e in candidates):
        here = code(*facts.commit(), facts.versions())
        candidates = [e for e in candidates if concluded(e, here)]
    if not candidates:
        return None
    fingerprint = build.task(settings).fingerprint()
    last = next((e for e in reversed(candidates) if e.fingerprint == fingerprint), None)
    return None if last is None else (last.path, store.read(last.path))


def code(commit: str | None, dirty: bool | None, versions: Mapping[str, Any]) -> tuple[Any, ...]:
    """What runs; null of edited code, which is like no other."""
    return (None if dirty else (commit, tuple(sorted(versions.items()))),)


def concluded(e: Entry, here: tuple[Any, ...]) -> bool:
    """Would the same command only repeat it? A failure by itself that was met by this very code, and is no kill
    from outside. here: `code` of what would run now."""
    if e.status != "failed":
        return e.status in FINAL or e.bound is not None
    return e.code == here != (None,) and e.signal not in OUTSIDE


def meets(e: Entry, settings: Settings) -> bool:
    """Was a run made under the conditions asked for? Device and precision as they resolve here; threads
    where a number of them is asked for; the rest as configured. One without the weights that are to be kept counts as
    not done."""
    device = resolve_device(settings.device)
    if e.device != device or e.dtype != resolve_dtype(settings.dtype, device):
        return False
    if settings.threads is not None and e.threads != settings.threads:
        return False
    if settings.keep == "best" and e.status == "ok" and not e.kept:
        return False
    return e.conditions == identity.conditions(plain(settings))
