"""The process of a run, started by lra.runner.keeper with a channel to it.

    python -m lra.runner.child DESCRIPTOR

On the channel come the settings; back go what is known so far, signs that it goes on and, in the end, where the
record lies.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from lra.errors import INTERRUPTED
from lra.machine import company
from lra.machine.channel import Channel
from lra.machine.heartbeat import felt
from lra.settings.typed import typed

GRACE = 4.0  # seconds for the end of a step, once the keeper is gone


def orphaned() -> None:
    """A run ends when its keeper has, in every phase: the next one may want this very run."""
    # To the main thread: sent to the process, it may go to this one and leave the other asleep.
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    end = threading.Timer(GRACE, os._exit, (INTERRUPTED,))
    end.daemon = True
    end.start()


def heeding(channel: Channel) -> None:
    """What the keeper says as the run goes on."""
    while (message := channel.receive()) is not None:
        company.heed(message)


def main() -> int:
    channel = Channel.inherited(int(sys.argv[1]), closed=orphaned)
    config = channel.receive()
    if config is None:
        return INTERRUPTED
    from lra.runner.draft import Terms
    from lra.runner.run import run

    threading.Thread(target=heeding, args=(channel,), daemon=True).start()
    with felt(lambda beat: channel.send({"beat": beat})):
        return run(typed(config["settings"]), channel.send, Terms(**config["terms"]))


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
