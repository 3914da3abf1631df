"""The guard of a process: starts it, and sees that nothing of what it has started is left when it ends, or when
whoever asked for it does.

    python -m lra.machine.guard LINK CHANNEL COMMAND ...

LINK: descriptor of a socket to whoever asks; from there come the letters of `Word`, back goes the exit code of the
command, once nothing of it is left. CHANNEL: a descriptor for the command alone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from enum import Enum

from lra.machine import processes
from lra.machine.signals import WARNING

GRACE = 4.0  # seconds that a process has for its last words once nobody listens


class Word(Enum):
    TERMINATE, WARN, KILL, STOP, GO_ON = b"t", b"w", b"k", b"s", b"g"


SENT = {Word.TERMINATE: signal.SIGTERM, Word.WARN: signal.SIGUSR1}  # to the process alone


class Guard:
    """link: to whoever asks. bell: rings when a child has ended."""

    def __init__(self, link: socket.socket, channel: int, command: list[str]) -> None:
        self.link, self.code = link, None
        self.bell, ringer = socket.socketpair()
        for end in (self.bell, ringer, link):
            end.setblocking(False)
        self.ringer = ringer  # kept open
        signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
        # Not ignored, or the command would be deaf too; Ctrl-C, which a terminal sends to all, is meant for who asks.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, *WARNING):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self.process = subprocess.Popen(command, pass_fds=(channel,))
        os.close(channel)

    def attend(self) -> int:
        """Until the command has ended; its exit code."""
        end = None
        while self.code is None:
            waited = [self.bell] if end else [self.bell, self.link]
            select.select(waited, [], [], max(0.0, end - time.monotonic()) if end else None)
            with suppress(BlockingIOError):
                self.bell.recv(4096)
            self.reap()
            if end is None and not self.hear():
                self.obey(Word.GO_ON)
                self.obey(Word.TERMINATE)
                end = time.monotonic() + GRACE
            elif end is not None and time.monotonic() >= end:
                self.obey(Word.KILL)
                end += GRACE
        return self.code

    def hear(self) -> bool:
        """Do what is asked; False if nobody asks any more."""
        try:
            words = self.link.recv(64)
        except BlockingIOError:
            return True
        except OSError:
            words = b""
        for letter in words:
            self.obey(Word(bytes([letter])))
        return bool(words)

    def obey(self, word: Word) -> None:
        me = os.getpid()
        if word in SENT and self.code is None:
            os.kill(self.process.pid, SENT[word])
        elif word is Word.KILL:
            processes.send(processes.below(me), signal.SIGKILL)
        elif word in (Word.STOP, Word.GO_ON):
            processes.freeze(me, word is Word.STOP)

    def reap(self) -> bool:
        """Take leave of whoever has ended; False if no child is left."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.process.pid:
                    self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def left(self) -> list:
        """What is still there of all that the command has started."""
        if not self.reap() and processes.LINUX:
            return []  # whoever loses its parent becomes a child of this process
        return processes.below(os.getpid()) or processes.marked(os.environ.get(processes.MARK, ""))


def main() -> int:
    link, channel, *command = sys.argv[1:]
    processes.adopt()
    guard = Guard(socket.socket(fileno=int(link)), int(channel), command)
    code = guard.attend()
    processes.end(guard.left)
    with suppress(OSError):
        guard.link.sendall(f"{code}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
