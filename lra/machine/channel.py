"""A channel between a process and one that it starts, which nothing else that runs in either can reach:
whatever a model prints, or reads, goes past it."""

from __future__ import annotations

import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

KEPT = 64 * 1024  # characters of what a process says that are kept
PATIENCE = 2.0  # seconds for what is on its way from a process that has ended


class Channel:
    """Messages, each anything that JSON can hold, both ways over a socket.

    closed: called once, from a thread, when the other side is gone.
    """

    def __init__(self, end: socket.socket, closed: Callable[[], None] = lambda: None) -> None:
        self.end, self.closed = end, closed
        self.messages: queue.Queue[Any] = queue.Queue()
        self.gone = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def inherited(cls, descriptor: int, closed: Callable[[], None]) -> Channel:
        """The end that this process was started with."""
        end = socket.socket(fileno=descriptor)
        end.set_inheritable(False)
        return cls(end, closed)

    def send(self, message: Any) -> bool:
        """False if nobody listens any more."""
        try:
            self.end.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self, seconds: float | None = None) -> Any:
        """The next message; null if the other side is gone. Raises TimeoutError after so many seconds, if any are
        said; without, the other side's end is that of the wait."""
        timeout = None if seconds is None else max(seconds, 0.0)
        try:
            return self.messages.get_nowait() if self.gone.is_set() else self.messages.get(timeout=timeout)
        except queue.Empty:
            if self.gone.is_set():
                return None
            raise TimeoutError from None

    def waiting(self) -> list[Any]:
        """The messages that have come, without waiting."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self.messages.get_nowait())
        return [m for m in found if m is not None]

    def close(self) -> None:
        with suppress(OSError):
            self.end.shutdown(socket.SHUT_RDWR)
        self.end.close()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self.end.makefile("r") as lines:
            for line in lines:
                self.messages.put(json.loads(line))
        self.gone.set()
        self.messages.put(None)  # wakes whoever waits
        self.closed()


def started(module: str, words: Sequence[str] = (), **pipes: Any) -> tuple[subprocess.Popen, Channel]:
    """`python -m MODULE DESCRIPTOR WORDS` in a process of its own, and the channel to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", module, str(theirs.fileno()), *words]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), **pipes)
    return process, Channel(ours)


class Tail:
    """The end of what a process says, read as it comes, however much it is."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.kept = b""
        self.thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self.thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe, suppress(OSError, ValueError):
            while part := pipe.read1(KEPT):
                self.kept = (self.kept + part)[-KEPT:]

    def error(self) -> str | None:
        """The line in which Python names the error that ended the process, or we do; null if it was none. What
        libraries log to the same place is no reason."""
        self.thread.join(PATIENCE)  # whatever the process has started may still hold the pipe
        said = self.kept.decode(errors="replace")
        found = re.findall(r"^(?:Traceback .*\n(?:[ \t]+.*\n)+|lra: )(\S.*)", said, re.MULTILINE)
        return found[-1].strip() if found else None


def ended_by(code: int) -> str:
    """ "was killed by signal 9 (Killed)", "ended with exit code 3": all that is known of a process that is gone.

    What a return code does not say is not claimed: signal 9 is not "out of memory".
    """
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by signal {-code} ({signal.strsignal(-code)})"
