"""Who does a run: one process at a time, from wherever its folder is seen, and one record of it in the end.

A run's folder holds a file for every time that somebody took it up, `claim.1`, `claim.2`, ...; the highest is its
owner's. Each is made under a name that nobody else can have, without locks, so that it holds on NFS. An owner
counts in `beat.N`; others time the count by their own clock, so that no two clocks need to agree. One that has
ended, or has been silent for SILENCE, may be followed by the next number: should it wake up, it finds that it has
been, before it writes anything. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra.machine.alive import is_gone, me

BEAT = 20.0  # seconds between two counts
SILENCE = 3 * BEAT + 60  # seconds without one after which an owner may be followed
OWNER = 4096  # bytes of a claim that are read
JOB = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID")


class Held(Exception):
    """Somebody else does this run. owner: what its claim says."""

    def __init__(self, owner: Mapping[str, Any], generation: int) -> None:
        super().__init__(owner, generation)
        self.owner, self.generation = owner, generation

    def __str__(self) -> str:
        return f"it is being done by process {self.owner.get('pid')} on {self.owner.get('host')}"


class Overtaken(Exception):
    """Somebody else has taken up the run meanwhile; what this process has of it is nobody's."""


@dataclass
class Claim:
    """The right to do a run and to leave its record. run_id: the same for all who take it up, one after the other."""

    folder: Path
    generation: int
    run_id: str
    started_utc: str
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def said(self) -> dict[str, Any]:
        """All but the thread, as JSON holds it."""
        return {"folder": str(self.folder), "generation": self.generation, "run_id": self.run_id} | {
            "started_utc": self.started_utc
        }

    def held(self) -> bool:
        """Is it still the newest?"""
        return newest(self.folder) == self.generation

    def check(self) -> None:
        """Raises Overtaken if it is not."""
        if not self.held():
            raise Overtaken(f"{self.folder.name} has been taken up by another process")

    def follower(self) -> Held:
        """Who has taken up the run meanwhile; nobody known where that is over already."""
        number = newest(self.folder)
        return Held(read(self.folder / f"claim.{number}") if number else {}, number)

    def beat(self) -> None:
        """Count, from a thread, until the claim is given up."""
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        path, count = self.folder / f"beat.{self.generation}", 0
        while True:
            count += 1
            with suppress(OSError):
                path.write_text(str(count))
            if self.stop.wait(BEAT):
                return

    def give_up(self) -> None:
        """Somebody else may go on at once."""
        self.stop.set()
        with suppress(OSError):
            (self.folder / f"released.{self.generation}").touch()

    def mark_recorded(self) -> None:
        """There is a record of how far this owner came; whoever goes on leaves another."""
        (self.folder / f"recorded.{self.generation}").touch()

    def clear(self) -> None:
        """The run has its record: nothing of its folder is needed any more."""
        self.stop.set()
        if not self.held():
            return
        with suppress(OSError):
            # Its own claim last: whoever looks meanwhile sees an owner.
            for path in sorted(self.folder.iterdir(), key=lambda p: p.name == f"claim.{self.generation}"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()


class Watcher:
    """What one process has seen of the owners of runs, by its own clock."""

    def __init__(self) -> None:
        self.seen: dict[Path, tuple[str, float]] = {}

    def look(self, folder: Path) -> tuple[Mapping[str, Any] | None, int]:
        """Who does the run, null where it may be taken up; and the number of a claim that has been silent for too
        long, which `taken` is to be told of."""
        generation = newest(folder)
        if not generation:
            return None, 0
        owner = read(folder / f"claim.{generation}")
        if free(folder, generation, owner):
            return None, 0
        return (None, generation) if self.silent(folder, generation) else (owner, 0)

    def silent(self, folder: Path, generation: int) -> bool:
        """Has the count stood still for SILENCE, as seen from here?"""
        path, now = folder / f"beat.{generation}", time.monotonic()
        count = _text(path)
        before = self.seen.get(path)
        if before is None or before[0] != count:
            self.seen[path] = (count, now)
            return False
        return now - before[1] >= SILENCE


def taken(folder: Path, run_id: str, started_utc: str, over: int = 0) -> Claim:
    """The run of a folder, claimed for this process; `run_id` and its start are those of an earlier claim if there
    is one. over: the number of a claim that is known to be silent.

    Raises Held if somebody else does it.
    """
    while True:
        generation = newest(folder)
        owner = read(folder / f"claim.{generation}") if generation else {}
        if generation > over and not free(folder, generation, owner):
            raise Held(owner, generation)
        if not (folder / f"recorded.{generation}").exists():
            run_id, started_utc = owner.get("run_id", run_id), owner.get("started_utc", started_utc)
        said = me() | job() | {"run_id": run_id, "started_utc": started_utc}
        if _made(folder / f"claim.{generation + 1}", json.dumps(said).encode()):
            claim = Claim(folder, generation + 1, run_id, started_utc)
            claim.beat()
            return claim


def newest(folder: Path) -> int:
    """The highest number of a claim; 0 if there is none."""
    try:
        found = [re.fullmatch(r"claim\.(\d{1,9})", path.name) for path in folder.iterdir()]
    except OSError:
        return 0
    return max((int(m[1]) for m in found if m), default=0)


def read(path: Path) -> dict[str, Any]:
    """What a claim says of its owner; nothing if it says nothing that can be read."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str | int)} if isinstance(found, dict) else {}


def free(folder: Path, generation: int, owner: Mapping[str, Any]) -> bool:
    """May the run be taken up at once? Its owner has given it up, has ended on this host, or was an earlier life of
    the very job that this process belongs to."""
    if (folder / f"released.{generation}").exists() or is_gone(owner) is True:
        return True
    mine = job()
    return bool(mine) and all(owner.get(k) == v for k, v in mine.items()) and not _is_me(owner)


def job() -> dict[str, str]:
    """Which job of a cluster this process belongs to; the same when it is put into the queue again."""
    return {name.lower(): os.environ[name] for name in JOB if name in os.environ}


def _is_me(owner: Mapping[str, Any]) -> bool:
    return all(owner.get(k) == v for k, v in me().items())


def _text(path: Path) -> str:
    # Opened, not asked for its time: what a file is like may be a minute old on a network, what it holds is not.
    try:
        with path.open("rb") as handle:
            return handle.read(OWNER).decode(errors="replace")
    except OSError:
        return ""


def _made(path: Path, content: bytes) -> bool:
    """Make a file, whole, under a name that nobody has; False if somebody has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.draft")
    try:
        with draft.open("xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return draft.stat().st_nlink == 2  # it was made, and the answer was lost on its way
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            return _exclusively(path, content)
        return True
    except FileNotFoundError:
        return False  # the folder was cleared just now; whoever asks looks again
    finally:
        draft.unlink(missing_ok=True)


def _exclusively(path: Path, content: bytes) -> bool:
    """On a file system without hard links."""
    try:
        with path.open("xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except FileExistsError:
        return False
    return True
