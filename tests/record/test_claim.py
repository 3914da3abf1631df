"""A run has one owner at a time, whoever was paused, lost an answer or has another clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lra.machine import alive
from lra.record import claim
from lra.record.claim import Held, Overtaken, Watcher, newest, taken
from tests.help import tiny

DEAD = 2**22 + 5


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a test's owners would go on counting."""
    monkeypatch.setattr(claim.Claim, "beat", lambda self: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    yield now


def on(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is claimed from now on is claimed on another host."""
    monkeypatch.setattr(alive.platform, "node", lambda: host)


def edit(folder: Path, number: int, **values: object) -> None:
    path = folder / f"claim.{number}"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_one_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    first = taken(place, "r1", "t1")
    assert (first.generation, first.run_id, first.started_utc) == (1, "r1", "t1") and first.held()
    with pytest.raises(Held, match=f"process {os.getpid()} on"):
        taken(place, "r2", "t2")
    first.give_up()
    second = taken(place, "r2", "t2")
    assert (second.generation, second.run_id, second.started_utc) == (2, "r1", "t1"), "the run keeps its name"
    assert second.held() and not first.held()
    with pytest.raises(Overtaken):
        first.check()
    second.check()
    first.clear()
    assert newest(place) == 2, "one who was overtaken clears nothing"
    second.clear()
    assert not place.exists()
    assert taken(place, "r3", "t3").run_id == "r3"


def test_what_is_recorded_goes_on_under_another_name(tmp_path: Path) -> None:
    first = taken(tmp_path / "a", "r1", "t1")
    first.mark_recorded()
    first.give_up()
    assert taken(tmp_path / "a", "r2", "t2").run_id == "r2"


def test_an_owner_that_has_ended_on_this_host_is_followed_at_once(tmp_path: Path) -> None:
    for harm in ({"pid": DEAD}, {"start": 1}, {"boot": "before"}):
        generation = taken(tmp_path, "r", "t").generation
        edit(tmp_path, generation, **harm)
        assert Watcher().look(tmp_path) == (None, 0)
    assert taken(tmp_path, "r", "t").generation == 4


def test_a_requeued_job_takes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    on("node1", monkeypatch)
    taken(tmp_path, "r", "t")
    on("node2", monkeypatch)
    assert taken(tmp_path, "r", "t").generation == 2
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    on("node3", monkeypatch)
    with pytest.raises(Held):
        taken(tmp_path, "r", "t")


@pytest.mark.parametrize("skew", [-1e6, 1e6])
def test_silence_is_told_by_ones_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], skew: float
) -> None:
    """An owner on another host, whose files bear other times: followed after its count has stood for SILENCE."""
    on("node1", monkeypatch)
    owner = taken(tmp_path, "r", "t")
    count = tmp_path / "beat.1"

    def counted(number: int) -> None:
        count.write_text(str(number))
        os.utime(count, (2e9 + skew, 2e9 + skew))

    counted(1)
    on("node2", monkeypatch)
    watcher = Watcher()
    for number in range(2, 30):
        assert watcher.look(tmp_path)[0]["host"] == "node1"
        clock[0] += claim.SILENCE - 1
        counted(number)
    assert watcher.look(tmp_path)[0]["host"] == "node1"
    clock[0] += claim.SILENCE - 0.1
    assert watcher.look(tmp_path)[0]["host"] == "node1"
    clock[0] += 0.2
    assert watcher.look(tmp_path) == (None, 1)
    with pytest.raises(Held):
        taken(tmp_path, "r2", "t2")
    second = taken(tmp_path, "r2", "t2", over=1)
    assert second.generation == 2 and second.run_id == "r" and not owner.held()
    with pytest.raises(Held):
        taken(tmp_path, "r3", "t3", over=1)
    assert claim.SILENCE >= 3 * claim.BEAT + 60


def test_an_answer_that_is_lost_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the server has made the file, its answer was lost, and the request that is sent again fails."""
    inner = os.link

    def lost(source: str, target: str) -> None:
        inner(source, target)
        inner(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(claim.os, "link", lost)
        assert taken(tmp_path, "r", "t").generation == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claim.1"]


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(source: str, target: str) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(claim.os, "link", none)
    assert taken(tmp_path, "r", "t").generation == 1
    with pytest.raises(Held):
        taken(tmp_path, "r", "t")
    assert claim.read(tmp_path / "claim.1")["run_id"] == "r"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": [1], "host": null}', "[" * 5000, "\x00\xff"])
def test_a_claim_that_says_nothing_is_somebodys(tmp_path: Path, text: str) -> None:
    """Until its silence is seen: a foreign file is data."""
    (tmp_path / "claim.3").write_text(text, encoding="latin-1")
    (tmp_path / "claim.x").touch()
    with pytest.raises(Held):
        taken(tmp_path, "r", "t")
    assert taken(tmp_path, "r", "t", over=3).generation == 4


RACE = """
import sys
from pathlib import Path
from lra.record.claim import Held, taken
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    try:
        print(number, taken(Path(sys.argv[1]) / str(number), "r", "t").generation)
    except Held:
        pass
print("done", flush=True)
sys.stdin.readline()  # who has ended owns nothing
"""


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    racers = [subprocess.Popen(command, **pipes, env=tiny.environment(), cwd=tiny.ROOT) for _ in range(4)]

    def until(word: str) -> list[str]:
        """What all of them say before they say that, and then wait."""
        return [line.strip() for racer in racers for line in iter(racer.stdout.readline, f"{word}\n")]

    def go() -> None:
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()

    assert until("ready") == []
    go()
    had = until("done")
    go()
    assert [racer.wait(60) for racer in racers] == [0] * 4
    assert sorted(had) == sorted(f"{number} 1" for number in range(40))
