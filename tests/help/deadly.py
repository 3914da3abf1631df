"""Mixers that end, hang or flood the process that they run in, once they train."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from lra.models.transformer import FullAttention


class Deadly(FullAttention):
    """Works for `after` training steps (two layers, a forward pass each), then does its deed."""

    def __init__(self, dim: int, heads: int, max_len: int, deed: str = "exit", after: int = 4) -> None:
        super().__init__(dim, heads, max_len)
        self.deed, self.left, self.scale = deed, after, 1.0

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.training and x.device.type != "meta":
            self.left -= 1
            if self.left < 0:
                getattr(self, self.deed)()
        return super().forward(x, mask) * self.scale

    def exit(self) -> None:
        os._exit(7)

    def leave(self) -> None:
        sys.exit(3)

    def crash(self) -> None:
        ctypes.string_at(0)

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def sleep(self) -> None:
        Path("asleep").touch()
        time.sleep(3600)

    def hoard(self) -> None:
        """More than any group of the tests may have."""
        self.hoarded = bytearray(b"x") * (2 << 30)
        self.sleep()

    def print_once(self) -> None:
        """100 MB."""
        if self.left == -1:
            for _ in range(100):
                print("x" * 999_999)

    def astray(self) -> None:
        self.scale = float("nan")

    def swallow(self) -> None:
        """Sleeps, and takes Ctrl-C for something of its own."""
        Path("asleep").touch()
        with suppress(KeyboardInterrupt):
            time.sleep(3600)

    def deaf(self) -> None:
        """Sleeps where nothing reaches it but the end."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        Path("asleep").touch()
        time.sleep(3600)

    def flood(self) -> None:
        sys.stdout.write("x" * 5_000_000)
        sys.stderr.write("y" * 5_000_000)

    def chat(self) -> None:
        print(".", end="")
        print('"ready"', flush=True)

    def fail(self) -> None:
        raise RuntimeError("as planned")


class Forgetful(FullAttention):
    """Reads what is not its own: standard input, to the end."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if x.device.type != "meta":
            sys.stdin.read()
        return super().forward(x, mask)
