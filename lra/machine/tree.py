"""A process and all that it starts, which end together: it is started by a guard (`lra.machine.guard`).

Whatever leaves its parent, its group or its session stays below the guard (Linux) or keeps its mark (elsewhere), and
is ended with the process. If the one that asked dies, the guard ends all; if the guard dies, whoever asked does.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from lra.machine import processes
from lra.machine.channel import Channel, ended_by
from lra.machine.guard import Word
from lra.machine.signals import ENDING, WARNING


class Tree:
    """`python -m MODULE DESCRIPTOR`, guarded, and the channel to it. code: its exit code, once nothing is left."""

    def __init__(self, module: str, environment: Mapping[str, str] | None = None, **pipes: Any) -> None:
        self.token, self.code, self.lost = secrets.token_hex(8), None, False
        self.link, its = socket.socketpair()
        ours, theirs = socket.socketpair()
        with its, theirs, held_back():
            ends = [str(end.fileno()) for end in (its, theirs)]
            python = [sys.executable, "-m"]
            command = [*python, "lra.machine.guard", *ends, *python, module, ends[1]]
            variables = {**os.environ, **(environment or {}), processes.MARK: self.token}
            self.guard = subprocess.Popen(command, pass_fds=(its.fileno(), theirs.fileno()), env=variables, **pipes)
        self.channel = Channel(ours)

    def wait(self, seconds: float) -> int | None:
        """The exit code; null if it has not ended within so many seconds."""
        if self.code is None and select.select([self.link], [], [], max(0.0, seconds))[0]:
            said = b""
            with suppress(OSError):
                said = self.link.recv(64)
            code = self.guard.wait()
            self.lost = not said
            if self.lost:  # the guard is gone, and what it guarded may not be
                processes.end(lambda: processes.marked(self.token))
            self.code = code if self.lost else int(said)
        return self.code

    def terminate(self) -> None:
        """Tell the process to end."""
        self._say(Word.TERMINATE)

    def warn(self) -> None:
        """Send it SIGUSR1."""
        self._say(Word.WARN)

    def kill(self) -> None:
        """End all, at once."""
        self._say(Word.KILL)

    def stop(self) -> None:
        """Have all stand still."""
        self._say(Word.STOP)

    def go_on(self) -> None:
        self._say(Word.GO_ON)

    def how(self) -> str:
        """ "was killed by signal 9 (Killed)": how it ended."""
        return f"lost its guard, which {ended_by(self.code)}" if self.lost else ended_by(self.code)

    def processes(self) -> list[processes.Process]:
        """All that there are."""
        return processes.below(self.guard.pid)

    def close(self) -> None:
        self.channel.close()
        self.link.close()

    def _say(self, word: Word) -> None:
        with suppress(OSError):
            self.link.sendall(word.value)


@contextmanager
def held_back() -> Iterator[None]:
    """What this thread starts inside hears of no ending before it is ready to."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, *WARNING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
