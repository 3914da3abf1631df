"""A lease is one process's at a time, is seen by all others, and ends with its holder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lra.machine import lease
from lra.machine.lease import Lease, device_name
from lra.machine.processes import MARK
from tests.help import tiny

HOLDER = (
    "import sys, time; from lra.machine.lease import Lease\n"
    "with Lease('cpu').held(settle=False): print(flush=True); time.sleep(float(sys.argv[1]))"
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def holder(seconds: float, token: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tiny.environment(**{MARK: token}))
    process.stdout.readline()
    return process


def test_who_holds_it_is_seen_by_others_alone_and_ends_with_him() -> None:
    mine = Lease("cpu")
    assert not mine.elsewhere("a")
    process = holder(600, "b")
    assert mine.elsewhere("a") and not mine.elsewhere("b")
    assert not Lease("cuda", "0").elsewhere("a"), "another device"
    process.kill()
    process.wait()
    assert not mine.elsewhere("a")
    with mine.held(settle=False):
        assert Lease("cpu").elsewhere("a")
    assert not Lease("cpu").elsewhere("a")


def test_two_do_not_hold_it_at_once() -> None:
    process = holder(1.0, "b")
    with Lease("cpu").held(settle=False):
        process.wait(10)
        assert Lease("cpu").elsewhere("a")


def test_others_have_the_time_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    from lra.runner.keeper import BEAT

    assert lease.SETTLE >= 2 * BEAT
    begin = time.monotonic()
    with Lease("cpu").held(settle=True):
        assert time.monotonic() - begin >= lease.SETTLE


def test_without_a_folder_nobody_waits(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "file").write_text("")
    monkeypatch.setattr(lease, "folder", lambda: own / "file" / "below")
    none = Lease("cpu")
    with none.held(settle=False):
        assert not Lease("cpu").elsewhere("a")


def test_whoever_means_the_same_device_names_it_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, auto in (([], "cpu"), (["nvidia0", "nvidiactl"], "cuda-0"), (["nvidiactl"], "cpu")):
        monkeypatch.setattr(Path, "glob", lambda self, _, names=names: [self / name for name in names])
        assert device_name("auto", None) == auto and device_name("cpu", "1") == "cpu"
    assert device_name("cuda", None) == device_name("cuda", "0") == "cuda-0"
    assert device_name("cuda", "1") == "cuda-1" and device_name("cuda", "0,1") == "cuda-0-1"
