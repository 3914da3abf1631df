"""torch without its compiler, in a process that compiles nothing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FunctionType

NAMED = "__dynamo_disable"  # what torch._compile keeps on a function, once it has asked the compiler about it


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, the meta device works without torch._dynamo, which takes as long to import as torch itself.

    torch wraps what a compiled program must not look into, nearly all that the meta device runs among it, and the
    first call of each imports the compiler to ask how to leave it out. A function that is told already is called as it
    stands. Where torch wraps otherwise, or the compiler is there, nothing is changed; afterwards all is as it was.
    """
    told = [] if "torch._dynamo" in sys.modules else [f for f in _wrapped(len(sys.modules)) if not hasattr(f, NAMED)]
    for function in told:
        setattr(function, NAMED, function)
    try:
        yield
    finally:
        for function in told:
            delattr(function, NAMED)


@lru_cache(maxsize=1)
def _wrapped(modules: int) -> list[FunctionType]:
    """The functions that torch has wrapped so. Looking for them goes through all objects that there are, so once for
    as many modules as are loaded."""
    import torch

    wrap = getattr(torch, "_disable_dynamo", None)
    code = wrap(lambda: None).__code__ if wrap is not None else None  # one for all wrappers
    if code is None or "fn" not in code.co_freevars:
        return []
    place = code.co_freevars.index("fn")  # not `__wrapped__`, which torch writes over here and there
    wrappers = [f for f in gc.get_referrers(code) if isinstance(f, FunctionType)]
    return [f.__closure__[place].cell_contents for f in wrappers]
