"""A measuring process, as its parent sees it: started, asked for turns, read out, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from lra.machine.channel import PATIENCE, Tail, ended_by, started
from lra.machine.heartbeat import beat
from lra.machine.lease import Lease
from lra.machine.memory import Kills
from lra.measure.cost import Cost, Limits, failure

READY, BEAT = "ready", "beat"  # for the next turn; goes on
ANSWER = 10.0  # seconds that putting the answer together may take, whatever is left


@contextmanager
def quiet(config: Mapping[str, Any]) -> Iterator[None]:
    """Inside, other runs on the device that `config` is for stand still."""
    visible, settle = os.environ.get("CUDA_VISIBLE_DEVICES"), config.get("workers", 1) > 1
    with closing(Lease(config.get("device", "auto"), visible)) as lease, lease.held(settle):
        yield


class Session:
    """A child that measures `config` in turns; use as a context manager, which ends it.

    timeout: seconds that the preparation and all turns may take together. module: what the child runs.
    """

    module = "lra.measure.child"

    def __init__(self, config: dict[str, Any], timeout: float) -> None:
        self.config, self.timeout = config, timeout
        self.spent = self.longest = 0.0  # seconds, of all and of the longest turn
        self.failed: Cost | None = None
        self.answer: dict[str, Any] | None = None

    def __enter__(self) -> Session:
        # What a model prints is no answer: it goes nowhere, and of its complaints the end is kept.
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process, self.channel = started(self.module, [str(self.timeout)], **pipes)
        self.said, self.kills = Tail(self.process.stderr), Kills()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def prepare(self) -> bool:
        """Build, count, warm up and take the step peak. False if the child has nothing more to do."""
        return self._ask(self.config)

    def turn(self, limits: Limits) -> bool:
        """Time steps within limits. False if the child has ended."""
        before = self.spent
        try:
            return self._ask(asdict(limits))
        finally:
            self.longest = max(self.longest, self.spent - before)

    def finish(self) -> Cost:
        """The answer."""
        return self.lost() or Cost.of(self.answer)

    def lost(self) -> Cost | None:
        """Asks for the answer; why there is none, null if there is one."""
        if not self.failed and self.answer is None:
            self._ask(None)
        if self.failed:
            return self.failed
        if self.answer is not None:
            return None
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return failure("failed", "the measuring process closed its channel and went on")
        if code == -signal.SIGKILL and self.kills.lately():
            counted = f"when the system counted a kill for want of memory ({self.kills.file.name})"
            return failure("oom", f"the measuring process {ended_by(code)}, {counted}")
        said = self.said.error() if code > 0 else None
        return failure("failed", f"the measuring process {ended_by(code)}{f': {said}' if said else ''}")

    def _ask(self, words: dict[str, Any] | None) -> bool:
        """Send a request (null: for the answer) and wait until it is met: True if the next may follow."""
        if self.failed or self.answer is not None:
            return False
        begin = time.monotonic()
        end = begin + max(self.timeout - self.spent, ANSWER if words is None else 0.0)
        try:
            self.channel.send(words)
            while (reply := self.channel.receive(end - time.monotonic())) == BEAT:
                beat()
        except TimeoutError:
            self.process.kill()  # or it would work on while others have their turns
            self.failed = failure("timeout", f"measuring took more than {self.timeout:.0f} s")
            return False
        finally:
            self.spent += time.monotonic() - begin
        if isinstance(reply, dict):
            self.answer = reply
        return reply == READY
