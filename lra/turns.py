"""Measuring processes that take turns.

The clock and the memory of a shared machine drift by tens of percent within minutes. Programs that
are measured one after the other differ by that; programs that take turns meet all of it alike. Each
lives in a process of its own, warm and blocked while another has its turn.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from lra.measure import LEAST_STEPS, READY, attempt, failure, is_disturbed, less_disturbed

SECONDS = 0.3  # of a turn: long next to what it costs to change, short next to the drift
STEPS = 4  # of a turn, at most


class Session:
    """A child that measures `config` in turns; use as a context manager, which ends it.

    timeout: seconds that the preparation and all turns may take together.
    """

    def __init__(self, config: dict[str, Any], timeout: float) -> None:
        self.config, self.timeout = config, timeout
        self.spent = self.longest = 0.0  # seconds, of all and of the longest turn
        self.failed: dict[str, Any] | None = None

    def __enter__(self) -> Session:
        self.scratch = tempfile.TemporaryDirectory()
        self.answer, self.complaint = (Path(self.scratch.name) / name for name in ("cost.json", "stderr"))
        with self.complaint.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lra.measure", "--child", self.answer, str(os.getpid()), str(self.timeout)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(self.process.stdout, self.lines), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        self.scratch.cleanup()

    def prepare(self) -> bool:
        """Build, count, warm up and take the step peak. False if the child has nothing more to do."""
        return self._ask(self.config)

    def turn(self, limits: dict[str, Any]) -> bool:
        """Time steps within limits (steps, seconds, least). False if the child has ended."""
        before = self.spent
        try:
            return self._ask(limits)
        finally:
            self.longest = max(self.longest, self.spent - before)

    def finish(self) -> dict[str, Any]:
        """The answer, as of `lra.measure.measure`."""
        if self.failed:
            return self.failed
        try:
            self._close()
            self.process.wait(max(self.timeout - self.spent, 10.0))
        except subprocess.TimeoutExpired:
            return self._late()
        if self.answer.exists():
            return json.loads(self.answer.read_text())
        if self.process.returncode == -signal.SIGKILL:
            return failure("oom", "the system killed the measuring process (out of memory)")
        lines = [line for line in self.complaint.read_text(errors="replace").splitlines() if line.strip()]
        return failure("failed", lines[-1] if lines else f"exit code {self.process.returncode}")

    def _ask(self, words: dict[str, Any]) -> bool:
        begin = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(words) + "\n")
            self.process.stdin.flush()
            while (line := self.lines.get(timeout=max(self.timeout - self.spent, 0.0))).strip() != READY:
                if not line:
                    return False
        except BrokenPipeError:
            return False
        except queue.Empty:
            self.failed = self._late()
            return False
        finally:
            self.spent += time.monotonic() - begin
        return True

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _late(self) -> dict[str, Any]:
        return failure("timeout", f"measuring took more than {self.timeout:.0f} s")


def _read(pipe: IO[str], lines: queue.Queue[str]) -> None:
    """Every line of a pipe, then an empty one."""
    try:
        for line in pipe:
            lines.put(line)
    except ValueError:  # closed from outside
        pass
    lines.put("")


def together(configs: list[dict[str, Any]], timeout: float, seed: int = 0) -> list[dict[str, Any]]:
    """`lra.measure.measure` of several configurations, each in a fresh child, that take turns.

    The turns come in rounds, each in another order: as many as it takes for `measure.steps` steps of
    each, or as begin within `measure.seconds` times the number of children, but LEAST_STEPS. What was
    disturbed takes turns once more, and the less disturbed of the two is kept; what ran out of memory
    may have lacked what the others held, and is measured again alone.
    """
    found = rounds(configs, timeout, seed)
    again = [i for i, r in enumerate(found) if is_disturbed(r)]
    for i, second in zip(again, rounds([configs[i] for i in again], timeout, seed + 1), strict=True):
        found[i] = less_disturbed(found[i], second)
    if len(configs) > 1:
        for i, r in enumerate(found):
            if r["status"] == "oom":
                found[i] = attempt(configs[i], timeout)
    return found


def rounds(configs: list[dict[str, Any]], timeout: float, seed: int) -> list[dict[str, Any]]:
    """One measurement of each configuration."""
    draw = random.Random(seed)
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(config, timeout)) for config in configs]
        alive = [s for s in sessions if s.prepare()]
        limits = [c["measure"] for c in configs]
        steps, seconds = max((m["steps"] for m in limits), default=0), sum(m["seconds"] for m in limits)
        begin, done = time.monotonic(), 0
        # A turn has at least one step, so that LEAST_STEPS rounds are enough whatever a step takes.
        while alive and (done < LEAST_STEPS or (done * STEPS < steps and time.monotonic() - begin < seconds)):
            draw.shuffle(alive)
            alive = [s for s in alive if s.turn({"steps": STEPS, "seconds": SECONDS, "least": 1})]
            done += 1
            if done >= LEAST_STEPS:  # else the next turn would be its end
                alive = [s for s in alive if s.spent + 2 * s.longest < timeout]
        return [s.finish() for s in sessions]
