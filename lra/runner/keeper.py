"""Whoever starts a run sees to its record: the run lives in a process of its own, and however that ends there is
a record of it. Needs no torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lra.console import say
from lra.errors import INTERRUPTED, USAGE, code_of
from lra.machine.channel import PATIENCE, Channel, ended_by, started
from lra.machine.signals import heard
from lra.record import store
from lra.record.claim import Claim
from lra.record.record import OUTSIDE, Record
from lra.record.reserve import tidy
from lra.runner.rescue import written
from lra.settings.schema import Settings
from lra.settings.typed import plain

GRACE = 60.0  # seconds that a run which is told to end has for its step; after half of them it is told again
BEAT = 0.2  # seconds between looks


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
    settings: Settings, seconds: float | None = None, quiet: bool = False, shared: bool = False, over: int = 0
) -> End:
    """Have a run done in a process of its own, for at most so many seconds; quiet: what it prints goes nowhere,
    what it says on stderr is seen. SIGINT and SIGTERM end it, to be gone on with by the same command. shared, over:
    lra.runner.draft.Terms.

    A process that dies without a word (a crash in native code, os._exit, a kill) leaves the record of what it
    had told so far, as `failed` with all that is known of the reason.
    """
    with deaf():
        process, channel = started("lra.runner.child", stdout=subprocess.DEVNULL if quiet else None)
    watch = Watch(process, channel)
    with heard(lambda *_: watch.end(), lambda *_: watch.warn()):
        channel.send({"settings": plain(settings), "terms": {"shared": shared, "over": over}})
        watch.wait(seconds)
    code = process.returncode
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
    if watch.claim is not None and record.signal in OUTSIDE:
        watch.claim.mark_recorded()  # what killed it has nothing to do with how far it had come
    elif watch.claim is not None:
        watch.claim.clear()
    say(f"status: {record.status} ({record.reason}); record: {path}")
    return End(code_of(record.status), path, watch.cut)


def _without_a_word(watch: Watch) -> int:
    """The exit code where nothing was known that a record could hold; who has not said why is spoken for."""
    code = watch.process.returncode
    if watch.told is not None:
        say("lra: interrupted")
        return INTERRUPTED
    if code < 0 or code not in (0, 1, USAGE, INTERRUPTED):
        say(f"lra: the run {ended_by(code)} before there was anything to record")
    return code if 0 <= code < 128 or code == INTERRUPTED else 1


class Watch:
    """A run's process, what it has told, and whether it was told to end."""

    def __init__(self, process: subprocess.Popen, channel: Channel) -> None:
        self.process, self.channel = process, channel
        self.draft: dict[str, Any] | None = None  # a record's fields, so far
        self.phase: str | None = None  # that it is in
        self.path: Path | None = None
        self.status: str | None = None  # of the record that lies there
        self.told: float | None = None  # when it was told to end
        self.cut = self.again = False
        self.claim: Claim | None = None  # of the process, to the run
        self.held: Mapping[str, Any] | None = None
        self.known = False

    def wait(self, seconds: float | None) -> None:
        """Until the process is gone, which is seen to."""
        begin, parent = time.monotonic(), os.getppid()
        try:
            while self.process.poll() is None:
                self.listen()
                now = time.monotonic()
                if seconds is not None and now - begin > seconds and self.told is None:
                    self.cut = True
                    self.end()
                if os.getppid() != parent and self.told is None:
                    self.end()  # whoever asked for this run is gone
                if self.told is not None and now - self.told > GRACE:
                    self.process.kill()
                elif self.told is not None and now - self.told > GRACE / 2 and not self.again:
                    self.again = True
                    self.end()
                try:
                    self.process.wait(BEAT)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.channel.gone.wait(PATIENCE)
            self.listen()
            self.channel.close()

    def listen(self) -> None:
        for message in self.channel.waiting():
            if "path" in message:
                self.path, self.status = Path(message["path"]), message["status"]
                self.known = message.get("known", False)
            elif "claim" in message:
                said = message["claim"]
                self.claim = Claim(Path(said["folder"]), said["generation"], said["run_id"], said["started_utc"])
            elif "held" in message:
                self.held = message["held"]
            else:
                self.draft, self.phase = message["draft"], message["phase"]

    def end(self) -> None:
        """Tell the process to end, in the one way that says nothing if it comes before anything is set up."""
        self.told = self.told or time.monotonic()
        self.process.terminate()

    def warn(self) -> None:
        """Have it keep its state; before it has said anything it does not know the signal, and would die of it."""
        if self.draft is not None:
            self.process.send_signal(signal.SIGUSR1)


def conclusion(watch: Watch) -> Record:
    """The record of a run whose process is gone without one."""
    code = watch.process.returncode
    reason = f"the run {ended_by(code)} in phase {watch.phase}"
    changed = {"status": "failed", "reason": reason, "signal": -code if code < 0 else None}
    return Record(**{**(watch.draft or {}), **changed})


@contextmanager
def deaf() -> Iterator[None]:
    """What is started inside does not hear Ctrl-C, which a terminal sends to all: its keeper tells it to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
