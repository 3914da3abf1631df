"""Who else works on this machine, as the keeper of a run tells it: with whom the run shared it, and for how long it
stood still so that another could be timed alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

shared_with: list[str] = []  # grows as others come
_stood = [0.0]  # seconds


def heed(message: Mapping[str, Any]) -> None:
    """What the keeper tells: `beside`, names of runs; or `stood`, seconds."""
    shared_with.extend(name for name in message.get("beside", ()) if name not in shared_with)
    _stood[0] += message.get("stood", 0.0)


def clock() -> float:
    """Seconds, of which none pass while this process stands still for another."""
    return time.perf_counter() - _stood[0]
