"""Whoever starts a run sees to its record: the run lives in a process of its own, and however that ends there is
a record of it. Needs no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lra.console import say
from lra.errors import INTERRUPTED, USAGE, code_of
from lra.machine.channel import PATIENCE
from lra.machine.lease import Lease
from lra.machine.memory import Kills
from lra.machine.processes import LONGEST
from lra.machine.signals import heard
from lra.machine.tree import Tree
from lra.record import store
from lra.record.claim import Claim
from lra.record.record import OUTSIDE, Record
from lra.record.reserve import tidy
from lra.runner.bounds import Bounds
from lra.runner.rescue import written
from lra.settings.schema import Run, Settings
from lra.settings.typed import plain

GRACE = 60.0  # seconds that a run which is told to end has for its step; after half of them it is told again
BEAT = 0.1  # seconds between looks
BREATH = 45.0  # seconds after which one that stands still may say that it is there, to whoever waits for its claim


@dataclass
class End:
    """How a run ended. code: its exit code. path: of its record; null where nothing was known that one could
    hold. cut: it was told to end because its time was over. known: somebody else left the record meanwhile.
    held: what the claim says of who else is doing the run."""

    code: int
    path: Path | None = None
    cut: bool = False
    known: bool = False
    held: Mapping[str, Any] | None = None


def kept(
    settings: Settings,
    seconds: float | None = None,
    quiet: bool = False,
    shared: bool = False,
    over: int = 0,
    environment: Mapping[str, str] | None = None,
    label: str = "a run",
) -> End:
    """Have a run done in a process of its own, for at most so many seconds; quiet: what it prints goes nowhere,
    what it says on stderr is seen. SIGINT and SIGTERM end it, to be gone on with by the same command. shared, over:
    lra.runner.draft.Terms. environment: variables besides ours. label: what those that are kept beside it call it.
    May be called from threads; then whoever hears signals hands them to GOING.

    A process that dies without a word (a crash in native code, os._exit, a kill) or takes more than `settings.run`
    allows leaves the record of what it had told so far, with all that is known of the reason. When this returns,
    nothing that the run has started is left.
    """
    tree = Tree("lra.runner.child", environment, stdout=subprocess.DEVNULL if quiet else None)
    visible = (environment or os.environ).get("CUDA_VISIBLE_DEVICES")
    watch = Watch(tree, settings.run, Lease(settings.device, visible), label)
    with GOING.with_it(watch), heard(lambda *_: watch.end(), lambda *_: watch.warn()):
        tree.channel.send({"settings": plain(settings), "terms": {"shared": shared, "over": over}})
        watch.wait(seconds)
    code = tree.code
    if watch.path is not None:  # whatever has become of it since
        return End(code_of(watch.status), watch.path, watch.cut, watch.known)
    if watch.held is not None:
        return End(code, None, watch.cut, held=watch.held)
    if code == USAGE and watch.draft is not None:
        return End(code, None, watch.cut)  # it has said why
    if watch.draft is None:
        return End(_without_a_word(watch), None, watch.cut)
    if watch.told is not None or code == INTERRUPTED:
        return End(INTERRUPTED, None, watch.cut)
    return concluded(settings, watch)


def concluded(settings: Settings, watch: Watch) -> End:
    """Write the record of a run whose process is gone without one, unless somebody else has taken the run up."""
    record = conclusion(watch)
    tidy(Path(settings.results_dir))  # of the room that it had taken
    if watch.claim is not None and not watch.claim.held():
        say(f"status: {record.status} ({record.reason}); another process has taken the run up, and leaves its record")
        return End(1, None, watch.cut)
    path = written(settings, lambda place: store.write(place, record), lambda: json.dumps(asdict(record)))
    if watch.claim is not None and (record.signal in OUTSIDE or record.status == "timeout"):
        watch.claim.mark_recorded()  # what ended it has nothing to do with how far it had come
    elif watch.claim is not None:
        watch.claim.clear()
    say(f"status: {record.status} ({record.reason}); record: {path}")
    return End(code_of(record.status), path, watch.cut)


def _without_a_word(watch: Watch) -> int:
    """The exit code where nothing was known that a record could hold; who has not said why is spoken for."""
    code = watch.tree.code
    if watch.told is not None:
        say("lra: interrupted")
        return INTERRUPTED
    if watch.broken is not None:
        say(f"lra: {watch.broken[1]}, before there was anything to record")
        return 1
    if code < 0 or code not in (0, 1, USAGE, INTERRUPTED):
        say(f"lra: the run {watch.tree.how()} before there was anything to record")
    return code if 0 <= code < 128 or code == INTERRUPTED else 1


class Watch:
    """A run's process, what it has told, and whether it was told to end."""

    def __init__(self, tree: Tree, limits: Run, lease: Lease | None = None, label: str = "") -> None:
        self.tree, self.bounds, self.kills = tree, Bounds(limits), Kills()
        self.lease, self.label = lease, label
        self.still: float | None = None  # since when it stands still for another
        self.beside: set[str] = set()  # runs that it has been told of
        self.draft: dict[str, Any] | None = None  # a record's fields, so far
        self.phase: str | None = None  # that it is in
        self.step: int | None = None  # the last that it told of, counted over all learning rates
        self.steps: int | None = None  # of all rates, at most
        self.first: tuple[float, int] | None = None  # when it told of a step first, and of which
        self.path: Path | None = None
        self.status: str | None = None  # of the record that lies there
        self.told: float | None = None  # when it was told to end
        self.cut = self.again = False
        self.claim: Claim | None = None  # of the process, to the run
        self.held: Mapping[str, Any] | None = None
        self.known = False
        self.broken: tuple[str, str] | None = None  # status and reason, where it has taken more than it may

    def wait(self, seconds: float | None) -> None:
        """Until the process is gone with all that it has started, which is seen to."""
        begin, parent = time.monotonic(), os.getppid()
        try:
            while self.tree.wait(BEAT) is None:
                self.listen()
                now = time.monotonic()
                if seconds is not None and now - begin > seconds and self.told is None:
                    self.cut = True
                    self.end()
                if os.getppid() != parent and self.told is None:
                    self.end()  # whoever asked for this run is gone
                if self.told is not None and now - self.told > GRACE:
                    self.tree.kill()
                elif self.told is not None and now - self.told > GRACE / 2 and not self.again:
                    self.again = True
                    self.end()
                self.look()
                self.yield_to_others()
        finally:
            if self.tree.code is None:
                self.tree.kill()
                self.tree.wait(LONGEST)
            self.tree.channel.gone.wait(PATIENCE)
            self.listen()
            self.tree.close()
            if self.lease is not None:
                self.lease.close()

    def yield_to_others(self) -> None:
        """Stand still while another is timed; tell the run of it, and of whom it shares the machine with."""
        now, others = time.monotonic(), GOING.beside(self) - self.beside
        if others:
            self.beside |= others
            self.tree.channel.send({"beside": sorted(others)})
        ended = self.told is not None or self.broken is not None
        wanted = self.lease is not None and not ended and self.lease.elsewhere(self.tree.token)
        if self.still is None and wanted:
            self.still = now
            self.bounds.pause()
            self.tree.stop()
        elif self.still is not None and (not wanted or now - self.still > BREATH):
            self.tree.go_on()
            self.bounds.go_on()
            self.tree.channel.send({"stood": now - self.still})
            self.still = None

    def look(self) -> None:
        """End a run that has taken more than it may."""
        self.kills.look()
        if self.broken is None and self.told is None and self.path is None:
            self.broken = self.bounds.broken(self.phase, self.tree.processes)
            if self.broken is not None:
                self.tree.kill()

    def listen(self) -> None:
        for message in self.tree.channel.waiting():
            self.bounds.beat()
            if "path" in message:
                self.path, self.status = Path(message["path"]), message["status"]
                self.known = message.get("known", False)
            elif "claim" in message:
                said = message["claim"]
                self.claim = Claim(Path(said["folder"]), said["generation"], said["run_id"], said["started_utc"])
            elif "held" in message:
                self.held = message["held"]
            elif "beat" in message:
                self.step = message["beat"].get("step", self.step)
                self.first = self.first or (None if self.step is None else (self.bounds.now(), self.step))
            else:
                self.draft, self.phase, self.steps = message["draft"], message["phase"], message["steps"]

    def seconds_left(self) -> float | None:
        """Of all its steps, at the pace of those that it told of; null where that is not known."""
        if self.steps is None or self.step is None or self.first is None or self.step == self.first[1]:
            return None
        begin, step = self.first
        return (self.bounds.now() - begin) / (self.step - step) * (self.steps - self.step)

    def end(self) -> None:
        """Tell the process to end, in the one way that says nothing if it comes before anything is set up."""
        self.told = self.told or time.monotonic()
        self.tree.terminate()

    def warn(self) -> None:
        """Have it keep its state; before it has said anything it does not know the signal, and would die of it."""
        if self.draft is not None:
            self.tree.warn()


class Going:
    """The runs that this process keeps just now, each in a thread of its own. told: all are to end, those to come
    too."""

    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self.told = False

    @contextmanager
    def with_it(self, watch: Watch) -> Iterator[None]:
        self.watches.add(watch)
        try:
            if self.told:
                watch.end()
            yield
        finally:
            self.watches.discard(watch)

    def beside(self, watch: Watch) -> set[str]:
        """What the others are called."""
        return {other.label for other in tuple(self.watches) if other is not watch}

    def end(self, *_: Any) -> None:
        self.told = True
        for watch in tuple(self.watches):
            watch.end()

    def warn(self, *_: Any) -> None:
        for watch in tuple(self.watches):
            watch.warn()


GOING = Going()


def conclusion(watch: Watch) -> Record:
    """The record of a run whose process is gone without one. Signal 9 alone is not "out of memory": that takes our
    own look, or the count of the system's."""
    tree, draft = watch.tree, watch.draft or {}
    number = -tree.code if tree.code < 0 else None
    status, reason = "failed", f"the run {tree.how()} in phase {watch.phase}"
    if watch.broken is not None:
        (status, reason), number = watch.broken, None
    elif number == signal.SIGKILL and watch.kills.lately():
        status, reason = "oom", f"{reason}, when the system counted a kill for want of memory ({watch.kills.file.name})"
    told = None if draft.get("ladder") else watch.step  # of several learning rates a record counts one's steps
    steps = max((n for n in (draft.get("steps_done"), told) if n is not None), default=None)
    return Record(**{**draft, "status": status, "reason": reason, "signal": number, "steps_done": steps})
