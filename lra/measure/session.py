"""A measuring process, as its parent sees it: started, asked for turns, read out, ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from lra.measure.cost import Cost, Limits, failure

READY = "ready for a turn"  # what the child prints when it waits for one


class Session:
    """A child that measures `config` in turns; use as a context manager, which ends it.

    timeout: seconds that the preparation and all turns may take together.
    """

    def __init__(self, config: dict[str, Any], timeout: float) -> None:
        self.config, self.timeout = config, timeout
        self.spent = self.longest = 0.0  # seconds, of all and of the longest turn
        self.failed: Cost | None = None

    def __enter__(self) -> Session:
        self.scratch = tempfile.TemporaryDirectory()
        self.answer, self.complaint = (Path(self.scratch.name) / name for name in ("cost.json", "stderr"))
        with self.complaint.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lra.measure.child", self.answer, str(os.getpid()), str(self.timeout)],
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
        self._close()
        self.scratch.cleanup()

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
        if self.failed:
            return self.failed
        try:
            self._close()
            self.process.wait(max(self.timeout - self.spent, 10.0))
        except subprocess.TimeoutExpired:
            return self._late()
        if self.answer.exists():
            return Cost.of(json.loads(self.answer.read_text()))
        # That memory ran out is known only where somebody says so: what kills with signal 9 does not.
        code = self.process.returncode
        if code < 0:
            return failure("failed", f"the measuring process was killed by signal {-code} ({signal.strsignal(-code)})")
        lines = [line for line in self.complaint.read_text(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1]}" if lines else ""
        return failure("failed", f"the measuring process ended with exit code {code}{said}")

    def _ask(self, words: dict[str, Any]) -> bool:
        begin = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(words) + "\n")
            self.process.stdin.flush()
            while (line := self.lines.get(timeout=max(self.timeout - self.spent, 0.0))).strip() != READY:
                if not line:
                    self.lines.put("")  # whoever asks again must not wait for what has ended
                    return False
        except BrokenPipeError:
            return False
        except queue.Empty:
            self.process.kill()  # or it would work on while others have their turns
            self.failed = self._late()
            return False
        finally:
            self.spent += time.monotonic() - begin
        return True

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _late(self) -> Cost:
        return failure("timeout", f"measuring took more than {self.timeout:.0f} s")


def _read(pipe: IO[str], lines: queue.Queue[str]) -> None:
    """Every line of a pipe, then an empty one."""
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put("")
