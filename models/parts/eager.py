"""What stays out of compiled programs, without loading a compiler where nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P, T = ParamSpec("P"), TypeVar("T")


def eager(function: Callable[P, T]) -> Callable[P, T]:
    """`torch.compiler.disable`, put off until something is compiled: it imports torch._dynamo, which takes as long as
    torch itself, in every process that only names a model."""

    @wraps(function)
    def called(*given: P.args, **named: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*given, **named)
        return function(*given, **named)

    return called
