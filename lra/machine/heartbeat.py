"""A sign of life: whoever works in steps gives one at each, and whoever waits for them is told of some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PAUSE = 1.0  # seconds between two that are told, at least


class _Heart:
    def __init__(self) -> None:
        self.tell: Callable[[dict[str, Any]], Any] | None = None
        self.last = float("-inf")


_heart = _Heart()


@contextmanager
def felt(tell: Callable[[dict[str, Any]], Any]) -> Iterator[None]:
    """Inside, `tell` is called with what a beat says, at most once in PAUSE seconds."""
    before = _heart.tell, _heart.last
    _heart.tell, _heart.last = tell, float("-inf")
    try:
        yield
    finally:
        _heart.tell, _heart.last = before


def beat(**facts: Any) -> None:
    """Work goes on; facts: what is known of it, as JSON can hold it."""
    if _heart.tell is not None and (now := time.monotonic()) - _heart.last >= PAUSE:
        _heart.last = now
        _heart.tell(facts)
