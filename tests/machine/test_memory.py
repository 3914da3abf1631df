"""What processes hold, and the system's count of those that it killed for it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lra.machine import memory
from tests.help import family

MIB = 2**20


def test_what_is_shared_counts_once() -> None:
    pid = family.hoard()
    found = [psutil.Process(pid), *psutil.Process(pid).children()]
    try:
        assert len(found) == 2
        plain, shared = memory.held(found, 10**12), memory.held(found, 300 * MIB)
        assert plain > 400 * MIB
        assert shared < 250 * MIB or not Path("/proc/self/smaps_rollup").exists()
        assert shared > 200 * MIB
    finally:
        for process in reversed(found):
            process.kill()


# Pages that 20 rounds of allocating 48 MiB take, in a process of their own: as it is, for a while, and for good.
KEPT = """
import resource, torch
from lra.machine import memory
def taken():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12, 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def after():
    taken()
    return taken()
print(after())
with memory.freed_kept():
    print(after())
print(memory.kept)
memory.keep_freed()
with memory.freed_kept():
    pass
print(after(), memory.kept)
"""


def test_what_is_freed_is_kept_for_a_while_or_for_good() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the allocator is not glibc's")
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    given, kept, no, good = done.stdout.splitlines()
    assert int(given) > 1000 and int(kept) < 100 and no == "False"
    assert int(good.split()[0]) < 100 and good.split()[1] == "True"


def test_a_process_that_is_gone_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    found = psutil.Process(process.pid)
    process.wait()
    assert memory.held([found], 0) == 0


@pytest.mark.parametrize(
    ("line", "place", "name"),
    [
        ("0::/job/step", "job/step", "memory.events"),
        ("0::/elsewhere/job", "", "memory.events"),  # seen from inside of a container
        ("4:memory:/job", "memory/job", "memory.oom_control"),
        ("7:cpu:/job\n0::/\n4:memory:/job", "memory", "memory.oom_control"),
    ],
)
def test_the_count_of_the_group_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, place: str, name: str
) -> None:
    read = Path.read_text
    counter = tmp_path / place / name
    counter.parent.mkdir(parents=True, exist_ok=True)
    counter.write_text("low 5\noom 9\noom_kill 2\noom_group_kill 7\n")
    (tmp_path.parent / name).write_text("oom_kill 77\n")  # outside of what is to be seen
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda p, *a: line if str(p) == "/proc/self/cgroup" else read(p, *a))
    kills = memory.Kills()
    assert (kills.file, kills.seen) == (counter, 2) and not kills.lately()
    counter.write_text("oom_kill 3\n")
    assert kills.lately() and kills.lately()
    monkeypatch.setattr(memory, "MOMENT", 0.0)
    time.sleep(0.01)
    assert not kills.lately()


def test_without_a_count_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "none")
    kills = memory.Kills()
    assert kills.file is None and kills.count() == 0 and not kills.lately()


def test_a_kill_for_want_of_memory_is_counted(small_group: Path) -> None:
    """By the system itself, where this test may make a control group."""
    script = (
        "import os, subprocess, sys; from lra.machine.memory import Kills\n"
        f"open({str(small_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); kills = Kills()\n"
        "assert not kills.lately()\n"
        "subprocess.run([sys.executable, '-c', 'x = b\"x\" * (1 << 30)'])\n"
        "print(kills.lately(), kills.seen)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.split() == ["True", "1"], done.stderr
