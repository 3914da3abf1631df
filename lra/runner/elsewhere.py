"""A run, or a sweep of them, in a process of its own, asked for from Python."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from lra.errors import USAGE, UserError
from lra.record import store
from lra.record.record import Record
from lra.settings import compose
from lra.settings.own import Asked


def recorded(what: Asked) -> Record:
    """The record that the run leaves. It sets signals and torch's deterministic modes, which are the
    caller's to choose in the caller's process.

    Raises UserError for bad input, RuntimeError if the process ends without a record.
    """
    settings = compose.config(what.words, what.config_dir)
    place = settings.results_dir, settings.choices.task, settings.choices.model
    before = set(store.paths(*place))
    code, said = typed(what)
    new = [p for p in store.paths(*place) if p not in before]
    if new:
        return store.read(new[-1])
    raise refused(code, said) or RuntimeError(f"the run left no record: {_last(code, said)}")


def typed(what: Asked) -> tuple[int, list[str]]:
    """The exit code of `python -m lra WORDS`, and the lines that it has said, which are shown as it says them."""
    config_dir = [f"--config-dir={what.config_dir}"] if what.config_dir else []
    return spoken([sys.executable, "-m", "lra", *config_dir, *what.words], what.environment)


def spoken(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit code of a command, and its lines."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        said: list[str] = []
        readers = [
            threading.Thread(target=_pass_on, args=pair, daemon=True)
            for pair in ((run.stdout, sys.stdout, said), (run.stderr, sys.stderr, said))
        ]
        try:
            for reader in readers:
                reader.start()
            return run.wait(), said
        except BaseException:
            run.terminate()
            raise
        finally:
            for reader in readers:
                reader.join()


def refused(code: int, said: list[str]) -> UserError | None:
    """What the user can mend, if that is why the process has ended."""
    return UserError(_last(code, said).removeprefix("lra: ")) if code == USAGE else None


def _last(code: int, said: list[str]) -> str:
    return next((line.strip() for line in reversed(said) if line.strip()), f"exit code {code}")


def _pass_on(pipe: IO[str], to: IO[str], said: list[str]) -> None:
    """Show what the run says as it says it: in a notebook, file descriptors lead nowhere."""
    for line in pipe:
        said.append(line)
        to.write(line)
        to.flush()
