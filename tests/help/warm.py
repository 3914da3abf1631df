"""`python -m MODULE` without the start: forked from a process that has imported torch, Hydra and the rest.

Starting Python with torch takes seconds, and a run takes three processes of it: most of what a test of a tiny run
costs. Here one process a session imports what is not ours, once; whoever asks gets a fork of it, which reads our code
anew and does as `python -m MODULE` does. What that starts in turn (guard, run, measuring process) is forked from it by
the same rule, so that the processes, their parents, channels and signals are those of a real run. What only a start
shows is not seen: what an import needs, and what is read from the environment before the first line runs. The tests
of that start processes of their own.

    python -m tests.help.warm DESCRIPTOR      the process to fork from; on the socket come descriptors, one set a wish
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from tests.help import killed

IMPORTED = (
    "hydra", "hydra._internal.hydra", "hydra._internal.utils", "omegaconf", "yaml", "numpy", "pandas", "scipy.stats",
    "torch", "torch.utils.data", "torch.utils.flop_counter", "torch.profiler", "numba", "psutil", "filelock", "sympy",
    "safetensors.torch", "PIL.Image", "matplotlib", "seaborn",
)  # fmt: skip
ABOVE = 512  # descriptors are moved there while they change places
THEIRS: set[str] = set()  # modules of packages, which a fork keeps
KEPT: list[Any] = []  # what would close or write to somebody else's descriptor if it were collected
START = subprocess.Popen  # whatever a test puts in its place
SIGNATURE = inspect.signature(START._execute_child)


def words_of(command: Any) -> list[str] | None:
    """[module, argument ...] of `python -m module argument ...`, where that may be forked."""
    if isinstance(command, (list, tuple)) and list(command[:2]) == [sys.executable, "-m"]:
        words = [os.fspath(word) for word in command[2:]]
        return words if words[0].split(".")[0] in ("lra", "tests") else None
    return None


def ours(name: str) -> bool:
    """Is a module that is loaded none of an installed package's or Python's?"""
    module = sys.modules.get(name)
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", None) or ()), None)
    if place is None or name == "__main__":
        return False
    return not any(Path(place).is_relative_to(prefix) for prefix in {sys.prefix, sys.base_prefix})


def become(words: Sequence[str], descriptors: Mapping[int, int], cwd: str, env: Mapping[str, str]) -> NoReturn:
    """Be `python -m WORDS`, in a process that has just been forked. descriptors: {its number: what it is here}."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)  # before its descriptor is closed
        moved = {to: fcntl.fcntl(at, fcntl.F_DUPFD, ABOVE) for to, at in descriptors.items()}
        os.closerange(3, ABOVE)
        for to, at in moved.items():
            os.dup2(at, to)
        os.closerange(ABOVE, 2 * ABOVE)
        gc.unfreeze()
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        path = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
        sys.path[:] = [*path, *(p for p in BASE if p not in path)]
        encoding = env.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
        KEPT.append((sys.stdin, sys.stdout, sys.stderr))
        sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        logging.root.handlers.clear()
        for name in [name for name in sys.modules if name not in THEIRS and ours(name)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        killed.armed()  # what `sitecustomize` does where a Python is started
        sys.argv = list(words)
        code = exit_code(functools.partial(runpy.run_module, words[0], run_name="__main__", alter_sys=True))
        threading._shutdown()
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def exit_code(program: Any) -> int:
    """What Python would end with."""
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 255
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Popen(subprocess.Popen):
    """What `subprocess.Popen` is in a forked process: `python -m` of ours is forked, all else started."""

    def _execute_child(self, *given: Any) -> None:
        asked = SIGNATURE.bind(self, *given).arguments
        words = words_of(asked["args"])
        env = os.environ if asked["env"] is None else asked["env"]
        if words is None or asked["preexec_fn"] is not None or asked["start_new_session"] or not possible(env):
            super()._execute_child(*given)
            return
        pipes = {0: asked["p2cread"], 1: asked["c2pwrite"], 2: asked["errwrite"]}
        standard = {to: to if at == -1 else at for to, at in pipes.items()}
        self.fork(words, standard | {at: at for at in asked["pass_fds"]}, asked["cwd"], asked["env"])
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[end] for end in ends))

    def fork(self, words: list[str], descriptors: dict[int, int], cwd: Any, env: Mapping[str, str] | None) -> None:
        place = os.fspath(cwd or Path.cwd())
        variables = dict(os.environ if env is None else env)
        self.pid = os.fork()
        if self.pid == 0:
            become(words, descriptors, place, variables)


class Asked(Popen):
    """The same for a process that is no such fork, as pytest's: the one to fork from is asked for it."""

    def fork(self, words: list[str], descriptors: dict[int, int], cwd: Any, env: Mapping[str, str] | None) -> None:
        self.talk, theirs = socket.socketpair()
        wish = {
            "words": words,
            "descriptors": list(descriptors),
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        }
        with theirs, ASKING:
            socket.send_fds(source(), [b"x"], [theirs.fileno(), *descriptors.values()])
            self.said = self.talk.makefile("rw")
            print(json.dumps(wish), file=self.said, flush=True)
        self.pid = int(self.said.readline())

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if not hasattr(self, "talk"):
            return super()._internal_poll(*given, **named)
        if self.returncode is None and select.select([self.talk], [], [], 0)[0]:
            self.returncode = int(self.said.readline())
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if not hasattr(self, "talk"):
            return super()._wait(timeout)
        if self.returncode is None and not select.select([self.talk], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._internal_poll()


ASKING = threading.Lock()


@functools.cache
def source() -> socket.socket:
    """The socket to this process's own process to fork from, which ends with it."""
    ours_, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "tests.help.warm", str(theirs.fileno())]
        root = Path(__file__).resolve().parents[2]
        env = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        KEPT.append(START(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, cwd=root, env=env))
    return ours_


def possible(env: Mapping[str, str]) -> bool:
    """May a process with these variables be a fork? Not where they act before the first line runs, nor where
    coverage is to follow it (tests.mutate)."""
    same = all(env.get(name) == os.environ.get(name) for name in ("PYTHONHASHSEED", "OMP_NUM_THREADS"))
    path = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    hooked = any((Path(place) / "sitecustomize.py").exists() for place in path)
    return sys.platform == "linux" and same and not hooked and "MUTATE_TEST" not in env


def serve(link: socket.socket) -> None:
    """Fork for each wish, and tell whoever wished how the process ended."""
    talks: dict[int, Any] = {}
    bell, ringer = socket.socketpair()
    for end in (bell, ringer):
        end.setblocking(False)
    signal.set_wakeup_fd(ringer.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([link, bell], [], [])[0]
        if bell in ready:
            bell.recv(4096)
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    talk = talks.pop(ended[0])
                    with suppress(OSError):
                        print(os.waitstatus_to_exitcode(ended[1]), file=talk, flush=True)
                    talk.close()
        if link in ready:
            _, received, *_ = socket.recv_fds(link, 1, 64)
            if not received:
                return  # whoever asks is gone
            first, *rest = received
            talk = socket.socket(fileno=first).makefile("rw")
            wish = json.loads(talk.readline())
            pid = os.fork()
            if pid == 0:
                signal.pthread_sigmask(signal.SIG_SETMASK, wish["blocked"])
                become(wish["words"], dict(zip(wish["descriptors"], rest, strict=True)), wish["cwd"], wish["env"])
            talks[pid] = talk
            print(pid, file=talk, flush=True)
            for at in rest:
                os.close(at)


def bytecode_kept() -> None:
    """Of our modules, which each fork reads anew: in a folder of the session's, as the tree may be one that nothing may
    be written to. Of a test's own files none, which it may edit twice within the second that Python tells files by."""
    folder, own, write = tempfile.mkdtemp(prefix="lra-warm-"), os.getpid(), SourceFileLoader.set_data
    sys.pycache_prefix, sys.dont_write_bytecode = folder, False
    place = f"{folder}{Path(__file__).resolve().parents[2]}{os.sep}"

    def written(self: SourceFileLoader, path: str, *data: Any, **more: Any) -> None:
        if path.startswith(place):
            write(self, path, *data, **more)

    SourceFileLoader.set_data = written
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == own else None)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    THEIRS.update(name for name in sys.modules if not ours(name))
    for known in gc.get_objects():
        if type(known) is weakref.finalize:
            known.atexit = False  # of torch's operators; a fork would take 0.1 s to take each away
    bytecode_kept()
    subprocess.Popen = Popen
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's background job does not hear it
    gc.collect()
    gc.freeze()  # or every fork's collector would write to all that is there
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    # What a Python has by itself, an installation in place among it; the first entry is the folder it was started in.
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    BASE = [p for p in sys.path[1:] if p not in given]
    main()
