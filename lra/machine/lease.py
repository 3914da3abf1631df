"""The machine for a moment alone: a lease a host and device, which whoever is timed holds, and by which the keepers of
other runs see that theirs has to stand still.

A lock on a file of this user's on this host, which the system gives back when its holder dies; never on a network.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lra.machine.processes import MARK

SETTLE = 0.25  # seconds in which the others notice
NAMED = 64  # bytes that name the holder


def folder() -> Path:
    """Of the leases: this user's, on this host."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given) / "lra" if given else Path(tempfile.gettempdir()) / f"lra-{os.getuid()}"


def device_name(device: str, visible: str | None) -> str:
    """What is leased. device: as asked for; visible: CUDA_VISIBLE_DEVICES. Whoever asks for the same gets the same,
    without torch: "auto" is a GPU where the system has one."""
    gpus = any(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia*"))
    if device == "cpu" or (device == "auto" and not gpus):
        return "cpu"
    return f"cuda-{(visible or '0').replace(',', '-')}"


class Lease:
    """Of one device. A folder that cannot be written has no leases, and then nobody waits for anybody."""

    def __init__(self, device: str, visible: str | None = None) -> None:
        self.file: IO[bytes] | None = None
        path = folder() / f"{device_name(device, visible)}.lease"
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.lstat().st_uid != os.getuid():
                return  # somebody else has made it, and may have laid there what he likes
            self.file = path.open("a+b", buffering=0)

    @contextmanager
    def held(self, settle: bool) -> Iterator[None]:
        """Nobody else has it inside. settle: give others the time to stand still."""
        if self.file is None:
            yield
            return
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            self.file.truncate(0)
            self.file.write(os.environ.get(MARK, str(os.getpid())).encode())
            if settle:
                time.sleep(SETTLE)
            yield
        finally:
            self.file.truncate(0)
            fcntl.flock(self.file, fcntl.LOCK_UN)

    def elsewhere(self, token: str) -> bool:
        """Does somebody else than the processes marked with `token` hold it now?"""
        if self.file is None:
            return False
        try:
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.file.fileno(), NAMED, 0).decode(errors="replace")
            return holder not in ("", token)  # it has it, and has not said yet who it is
        except OSError:
            return False
        fcntl.flock(self.file, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
