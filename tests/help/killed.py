"""A process that is killed at a named point: put on PYTHONPATH as `sitecustomize`, it waits for its moment.

    LRA_TEST_KILL=lra.record.store:write_once:2:9:before LRA_TEST_DONE=file python -m lra ...

kills the process with signal 9 before (after) the second call of that function, once: the file is made first.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import Any

PROGRAM = "from tests.help import killed\nkilled.armed()\n"


class Late(MetaPathFinder):
    """Changes a function of a module once that is imported."""

    def __init__(self, module: str, name: str, number: int, signal: int, moment: str) -> None:
        self.module, self.name, self.left, self.signal, self.moment = module, name, number, signal, moment

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        inner = spec.loader.exec_module

        def loaded(module: Any) -> None:
            inner(module)
            owner, _, attribute = self.name.rpartition(".")
            place = getattr(module, owner) if owner else module
            setattr(place, attribute, self.watched(getattr(place, attribute)))

        spec.loader.exec_module = loaded
        return spec

    def watched(self, function: Any) -> Any:
        def called(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.moment == "before":
                self.end()
            out = function(*given, **named)
            if self.left == 0 and self.moment == "after":
                self.end()
            return out

        return called

    def end(self) -> None:
        try:
            os.close(os.open(os.environ["LRA_TEST_DONE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return  # it was done in another process
        os.kill(os.getpid(), self.signal)


def armed() -> None:
    if wanted := os.environ.get("LRA_TEST_KILL"):
        module, name, number, signal, moment = wanted.split(":")
        sys.meta_path.insert(0, Late(module, name, int(number), int(signal), moment))
