"""A process with relatives, for what guards them: python -m tests.help.family DESCRIPTOR. No torch.

On the channel comes a list of deeds, done one after the other; what each has to tell goes back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from lra.machine.channel import Channel

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


def child(**more: object) -> int:
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, **more)
    process.stdout.readline()  # now it is deaf
    return process.pid


def session() -> int:
    """One in a session and a group of its own, as torchrun's ranks are."""
    return child(start_new_session=True)


def daemon() -> int:
    """One that has left its parent too, and the environment."""
    script = (
        f"from subprocess import *; print(Popen([{sys.executable!r}, '-c', {DEAF!r}], env={{}}, stdout=DEVNULL).pid)"
    )
    command = [sys.executable, "-c", script]
    return int(subprocess.run(command, start_new_session=True, stdout=subprocess.PIPE, text=True, check=True).stdout)


def gone() -> int:
    """One that has left its parent."""
    script = f"from subprocess import *; print(Popen([{sys.executable!r}, '-c', {DEAF!r}], stdout=DEVNULL).pid)"
    return int(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout)


def hoard() -> int:
    """One of 200 MiB, whose two children share them."""
    script = "import os, time; x = b'x' * (200 << 20); os.fork(); print(os.getpid(), flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.readline()
    return process.pid


def noting() -> int:
    """One that stays when it is told to end, and when nobody listens any more, and says in its folder what it heard."""
    signal.signal(signal.SIGTERM, lambda *_: Path("told").touch())
    threading.Thread(target=time.sleep, args=(600.0,)).start()
    return os.getpid()


def deaf() -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return os.getpid()


def ears() -> list[str]:
    """What it hears of the signals that end."""
    return [getattr(signal.getsignal(n), "name", "a handler") for n in (signal.SIGTERM, signal.SIGINT)]


def sleep() -> int:
    time.sleep(600)
    return 0


def leave() -> int:
    os._exit(3)


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def main() -> None:
    channel = Channel.inherited(int(sys.argv[1]), closed=lambda: None)
    while (deed := channel.receive()) is not None:
        channel.send(globals()[deed]())
    with suppress(OSError):
        channel.close()


if __name__ == "__main__":
    main()
