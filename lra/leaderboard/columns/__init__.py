"""Further columns of the page's board, a file each: put one here and it is a column, with no other edit.

A file holds

    TITLE   its heading
    ABOUT   what the heading explains when hovered over
    text(line)    what a lra.leaderboard.view.Line shows there; "-" where nothing is known
    value(line)   a number to sort by; null where nothing is known
    odd(line)     optional: is it to be looked at twice, and so set in bold?

Columns stand to the right of the averages, in the order of their files' names. They show what a board knows
already: a column that needs more of the records asks for it in lra.leaderboard.view.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from lra.leaderboard.board import Line


@dataclass(frozen=True)
class Extra:
    title: str
    about: str
    text: Callable[[Line], str]
    value: Callable[[Line], float | None]
    odd: Callable[[Line], bool]


def extra(module: ModuleType) -> Extra:
    """The column that a module holds; AttributeError names what it lacks."""
    odd = getattr(module, "odd", lambda line: False)
    return Extra(module.TITLE, module.ABOUT, module.text, module.value, odd)


def found() -> list[Extra]:
    names = sorted(each.name for each in pkgutil.iter_modules(__path__))
    return [extra(importlib.import_module(f"{__name__}.{name}")) for name in names]
