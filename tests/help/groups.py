"""Control groups with little memory, where the system lets us make one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lra.machine import memory


@contextmanager
def limited(size: int) -> Iterator[Path]:
    """The folder of a new group below this process's own, of at most so many bytes; skips where there is none."""
    kills = memory.Kills()
    if kills.file is None:
        pytest.skip("this system counts no kills for want of memory")
    group = kills.file.parent / f"lra-{secrets.token_hex(4)}"
    limits = ("memory.max", "memory.swap.max", "memory.limit_in_bytes")
    try:
        group.mkdir()
        found = [group / name for name in limits if (group / name).exists()]
        for file in found:
            file.write_text(str(0 if "swap" in file.name else size))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not found:
            pytest.skip("no limit can be set here")
        yield group
    finally:
        for _ in range(50):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)
