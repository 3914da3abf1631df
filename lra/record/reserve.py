"""Room for a record before there is one, and the tidying up after runs that were killed."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from lra.machine.alive import is_gone, me
from lra.record.sheet import Damaged, read

ENDING, ANSWERS, WEIGHTS = ".reserve", ".predictions.npz", ".safetensors"
RECORD, ANSWER = 256 * 1024, 16  # bytes of a record, of a stored answer, at most
OWNER = 4096  # bytes of the file's head that are read to see whose it is
STALE = 3600.0  # seconds after which a draft or a probe is nobody's: they live for moments


class Reserve:
    """Disk space in the folder of the record to come, named after its run and owned by this process.

    A disk that fills while a run goes on would otherwise have no room for what it was for. A file system that
    knows no such promise (one that compresses or copies on write) keeps none; then there is another place.
    """

    def __init__(self, folder: Path, run_id: str, answers: int) -> None:
        """Raises OSError if there is no room."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f".{run_id}{ENDING}"
        try:
            with self.path.open("xb") as handle:
                handle.write(json.dumps(me()).encode() + b"\n")
                handle.write(b" " * (RECORD + ANSWER * answers))
                handle.flush()
                os.fsync(handle.fileno())
        except OSError:
            self.remove()
            raise

    def release(self) -> None:
        """Give the space back, just before it is used; what is left says whose the files are that come now."""
        with suppress(OSError), self.path.open("rb+") as handle:
            handle.truncate(len(handle.readline(OWNER)))

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def tidy(results: Path) -> list[Path]:
    """Remove what killed runs have left below a results folder: reserves whose owner is gone, with the stored
    answers and weights of their runs where no record names them, and drafts and probes that are old. What was removed.

    Owners on other hosts cannot be seen from here, and their files stay. Records are never touched.
    """
    removed = []
    for folder in [results, *(p for p in (results / "runs").glob("*/*") if p.is_dir())]:
        with suppress(OSError):
            removed += [path for path in _left(folder) if _unlinked(path)]
    return removed


def _left(folder: Path) -> list[Path]:
    found = []
    now = time.time()
    for entry in os.scandir(folder):
        if not entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
            continue
        path = Path(entry.path)
        if path.suffix in (".draft", ".probe") and now - entry.stat().st_mtime > STALE:
            found.append(path)
        elif path.suffix == ENDING and _ownerless(path):
            name = path.name[1 : -len(ENDING)]
            found.append(path)
            named, beside = _named(folder / f"{name.split('.')[0]}.json"), {name + ANSWERS, name + WEIGHTS}
            found += [folder / file for file in sorted(beside - named if named is not None else ())]
    return found


def _named(record: Path) -> set[str] | None:
    """The files beside it that a record holds on to; null of one that cannot be read, or that says nothing of its
    answers: it might hold on to any."""
    if not record.exists():
        return set()
    try:
        r = read(record)
    except Damaged:
        return None
    return None if r.predictions is None else {each["file"] for each in (r.predictions, r.kept) if each}


def _ownerless(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            owner = json.loads(handle.readline(OWNER))
    except (OSError, ValueError, RecursionError):
        return time.time() - path.stat().st_mtime > STALE  # cut short while it was made
    return isinstance(owner, dict) and is_gone(owner) is True


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
