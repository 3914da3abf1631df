"""Ctrl-C and SIGTERM, heard for a while by somebody else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard(by: Callable[..., Any]) -> Iterator[None]:
    """Hand SIGINT and SIGTERM to `by`; one that is ignored, as Ctrl-C is in a background job, stays so. Only the
    main thread may listen to signals: in another nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, by) for n in ENDING if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
