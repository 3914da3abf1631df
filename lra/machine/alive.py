"""Which process is meant, and whether it is still there."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")


def me() -> dict[str, Any]:
    """What tells this process from any other of its host, another one with its number among them."""
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "start": _start(os.getpid())}


def is_gone(owner: Mapping[str, Any]) -> bool | None:
    """Has the process that said `me()` ended? Null of another host's, which cannot be seen from here."""
    if owner.get("host") != platform.node():
        return None
    if owner.get("boot") != _boot():
        return True
    pid = owner.get("pid")
    if type(pid) is not int or pid < 1:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's, so there is one
    return _start(pid) != owner.get("start")


def _boot() -> str | None:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return None


def _start(pid: int) -> int | None:
    """When it was started, in ticks since the host was; null where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
