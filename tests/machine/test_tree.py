"""Nothing of a process is left when it has ended, or when its guard or whoever asked for it has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lra.machine import guard, processes
from lra.machine.tree import Tree
from tests.help import tiny

ON_LINUX = pytest.mark.skipif(not processes.LINUX, reason="Linux alone hands on orphans")
SOON = 20.0


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    monkeypatch.chdir(tiny.ROOT)
    made = Tree("tests.help.family")
    yield made
    if made.code is None:
        made.kill()
        assert made.wait(SOON) is not None
    made.close()


def told(tree: Tree, deed: str) -> int:
    tree.channel.send(deed)
    return tree.channel.receive(SOON)


def is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def end_of(pids: list[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(map(is_there, pids)):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("relative", "deed", "code"),
    [
        ("child", "leave", 3),
        ("session", "die", -9),
        ("gone", "leave", 3),
        pytest.param("daemon", "die", -9, marks=ON_LINUX),
        pytest.param("child", "die", -9, marks=pytest.mark.slow),
        pytest.param("session", "leave", 3, marks=pytest.mark.slow),
        pytest.param("gone", "die", -9, marks=pytest.mark.slow),
        pytest.param("daemon", "leave", 3, marks=[ON_LINUX, pytest.mark.slow]),
    ],
)
def test_what_it_has_started_ends_with_it(tree: Tree, relative: str, deed: str, code: int) -> None:
    pid = told(tree, relative)
    assert is_there(pid)
    tree.channel.send(deed)
    assert tree.wait(SOON) == code and not is_there(pid) and not tree.lost


def test_what_is_left_is_asked_first(tree: Tree) -> None:
    """A process that hears has the time to tidy up."""
    assert processes.PATIENCE >= 0.5
    told(tree, "child")
    begin = time.monotonic()
    tree.channel.send("leave")
    assert tree.wait(SOON) == 3 and time.monotonic() - begin >= processes.PATIENCE


def test_an_end_without_relatives_is_at_once(tree: Tree) -> None:
    told(tree, "ears")
    begin = time.monotonic()
    tree.channel.send("leave")
    assert tree.wait(SOON) == 3 and time.monotonic() - begin < processes.PATIENCE


def test_all_are_killed(tree: Tree) -> None:
    pids = [told(tree, "deaf"), told(tree, "session"), told(tree, "gone")]
    tree.terminate()
    assert tree.wait(0.5) is None
    tree.kill()
    assert tree.wait(SOON) == -signal.SIGKILL
    assert not any(map(is_there, pids))


def test_who_is_told_to_end_hears_it_and_not_the_terminal(tree: Tree) -> None:
    assert told(tree, "ears") == ["SIG_DFL", "SIG_IGN"]
    os.kill(tree.guard.pid, signal.SIGTERM)  # as sent to a whole group: the guard stays
    os.kill(tree.guard.pid, signal.SIGINT)
    assert tree.wait(0.3) is None
    tree.terminate()
    assert tree.wait(SOON) == -signal.SIGTERM


@pytest.mark.parametrize(
    "relative", [pytest.param("child", marks=pytest.mark.slow), pytest.param("session", marks=pytest.mark.slow), "gone"]
)
def test_without_its_guard_nothing_is_left_either(tree: Tree, relative: str) -> None:
    pids = [told(tree, "deaf"), told(tree, relative)]
    os.kill(tree.guard.pid, signal.SIGKILL)
    assert tree.wait(SOON) == -signal.SIGKILL and tree.lost
    assert "its guard, which was killed by signal 9" in tree.how()
    end_of(pids, 1.0)


@pytest.mark.parametrize("stopped", [pytest.param(False, marks=pytest.mark.slow), True])
def test_when_whoever_asked_is_killed_all_end_soon(tmp_path: Path, stopped: bool) -> None:
    script = (
        "import time; from lra.machine.tree import Tree\n"
        "tree = Tree('tests.help.family')\n"
        "for deed in ('noting', 'session', 'daemon'):\n"
        "    tree.channel.send(deed); print(tree.channel.receive(), flush=True)\n"
        f"if {stopped}: tree.stop()\n"
        "print(tree.guard.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    asker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=tiny.environment())
    pids = [int(asker.stdout.readline()) for _ in range(4)]
    time.sleep(0.5)
    assert all(map(is_there, pids))
    asker.kill()
    asker.wait()
    assert guard.GRACE <= 4.0
    end_of(pids, guard.GRACE + processes.PATIENCE + 10.0)
    assert (tmp_path / "told").exists(), "nobody is killed who was not told to end first"


def test_all_stand_still_and_go_on(tree: Tree) -> None:
    pids = [told(tree, "deaf"), told(tree, "session")]

    def still() -> list[bool]:
        return [psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids]

    for deed, wanted in ((tree.stop, True), (tree.go_on, False)):
        deed()
        end = time.monotonic() + SOON
        while still() != [wanted] * 2:
            assert time.monotonic() < end
            time.sleep(0.02)
    tree.stop()
    tree.kill()
    assert tree.wait(SOON) == -signal.SIGKILL


def test_its_processes_are_seen(tree: Tree) -> None:
    pids = {told(tree, "deaf"), told(tree, "session")}
    assert {p.pid for p in tree.processes()} == pids
