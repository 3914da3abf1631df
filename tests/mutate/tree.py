"""A copy of the checkout to do harm in, with its worker."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

COPIED = ("lra", "models", "tasks", "tests", "configs", "docs", "examples", "notebooks", "results")
SLOW_TO_IMPORT = (
    "numpy",
    "pandas",
    "scipy.stats",
    "torch",
    "numba",
    "matplotlib.pyplot",
    "seaborn",
    "hydra",
    "accelerate",
    "datasets",
    "hypothesis",
)
PATIENCE = 6
START = 300  # seconds that the imports of a worker may take
# Python runs this in every process that a test starts with the tree on its path.
COVERED = """\
import os
if os.environ.get("MUTATE_TEST") and os.environ.get("MUTATE_DATA"):
    import atexit, coverage
    found = coverage.Coverage(
        data_file=os.environ["MUTATE_DATA"], data_suffix=True, config_file=False, context=os.environ["MUTATE_TEST"],
        source=[os.path.join(os.path.dirname(os.path.abspath(__file__)), p) for p in ("lra", "models", "tasks")],
    )
    found.start()
    atexit.register(lambda: (found.stop(), found.save()))
"""


class Overstepped(Exception):
    """Nothing was heard for longer than the limit."""


def worked(session: int | None) -> float:
    """Seconds of processor time of all processes of a session; 0 where the system does not tell."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


class Tree:
    """One copy at `path`; whoever holds it is the only one to write in it."""

    def __init__(self, root: Path, path: Path, imports: tuple[str, ...] = SLOW_TO_IMPORT) -> None:
        self.path, self.imports, self.process = path, imports, None
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        for name in COPIED:
            if (root / name).exists():
                shutil.copytree(root / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file in root.iterdir():
            if file.is_file() and file.name != ".git":
                shutil.copy2(file, path / file.name)
        (path / "sitecustomize.py").write_text(COVERED)
        shared = path.parent / "shared"
        if (root.parent / "shared").is_dir() and not shared.exists():
            shared.symlink_to(root.parent / "shared")

    @contextmanager
    def holding(self, file: str, text: str) -> Iterator[None]:
        """The file with another text; afterwards as it was, its time too, so that what was compiled of it counts."""
        target = self.path / file
        before, times = target.read_bytes(), target.stat()
        try:
            target.write_text(text, encoding="utf-8")
            yield
        finally:
            target.write_bytes(before)
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))

    def ask(self, request: dict[str, Any], limit: Any) -> Iterator[dict[str, Any]]:
        """The worker's events; limit(event) seconds of work until the next, else Overstepped and the child is dead.

        Of work, not of the clock: on a busy machine a child that waits for its turn has done nothing wrong. One
        that waits for nothing is seen by the clock, PATIENCE times as late.
        """
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        event: dict[str, Any] = {}
        pid: int | None = None
        while "end" not in event:
            event = self.next(pid, limit(event))
            pid = event.get("pid", pid)
            yield event

    def next(self, pid: int | None, seconds: float) -> dict[str, Any]:
        before = worked(pid)
        for _ in range(PATIENCE):
            with suppress(Overstepped):
                return self.heard(seconds)
            if worked(pid) - before >= seconds:
                break
        try:
            if pid is None:
                raise Overstepped
            os.killpg(pid, signal.SIGKILL)
            while "end" not in self.heard(60.0):
                pass
        except (ProcessLookupError, Overstepped):
            self.stop()
        raise Overstepped

    def heard(self, seconds: float) -> dict[str, Any]:
        try:
            line = self.events.get(timeout=seconds)
        except queue.Empty:
            raise Overstepped from None
        if line is None:
            raise RuntimeError(f"the worker of {self.path} ended")
        return json.loads(line)

    def start(self) -> None:
        more = os.environ.get("PYTHONPATH", "")
        env = os.environ | {"PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        if more and str(Path.cwd()) not in more.split(os.pathsep):
            env["PYTHONPATH"] += os.pathsep + more
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutate.worker", *self.imports],
            cwd=self.path,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.events: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process.stdout, self.events), daemon=True).start()
        self.heard(START)

    @staticmethod
    def listen(pipe: Any, events: queue.Queue[str | None]) -> None:
        for line in pipe:
            events.put(line)
        events.put(None)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process = None
