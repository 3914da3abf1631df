"""Ctrl-C and SIGTERM, heard for a while by somebody else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)
WARNING = (signal.SIGUSR1, signal.SIGUSR2)  # clusters send them some time before the end


def interrupting() -> Callable[..., None]:
    """What raises KeyboardInterrupt when it is called first, and nothing after."""
    told = []

    def interrupt(*_: Any) -> None:
        told.append(True)
        if len(told) == 1:
            raise KeyboardInterrupt

    return interrupt


@contextmanager
def heard(by: Callable[..., Any], warned: Callable[..., Any] | None = None) -> Iterator[None]:
    """Hand SIGINT and SIGTERM to `by`, SIGUSR1 and SIGUSR2 to `warned` if there is one; a signal that is ignored, as
    Ctrl-C is in a background job, stays so. Only the main thread may listen to signals: in another nothing is
    changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = dict.fromkeys(ENDING, by) | (dict.fromkeys(WARNING, warned) if warned is not None else {})
    before = {n: signal.signal(n, to) for n, to in wanted.items() if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
