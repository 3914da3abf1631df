"""What is chosen of a results folder: which models, tasks, budgets, machines and variants are shown, in what order.

    model=performer,lin*   task=listops,text   family=kernel   budget=quick   machine=Intel*   variant=none
    columns=listops,avg5,parameters   sort=name

A value is a list of names and globs (* and ?). Tables and figures of a choice carry its words, so that it can be
repeated. A choice says what is shown and never what is compared: whatever rests on comparisons is worked out over all
that is on record, so that to leave something out changes no mark of what stays.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import pandas as pd

from lra.errors import UserError, nearest
from lra.settings.words import taken

FILTERS = ("model", "task", "family", "budget", "machine", "variant")
KEYS = (*FILTERS, "columns", "sort")
NONE = "none"  # of variants
MOST = 12  # names that an error lists
# What would end a code span, a comment, an attribute or a line of a file that carries the words.
UNFIT = re.compile(r"[`<>&\"'\\\x00-\x1f]")

Families = Mapping[str, str]
Names = tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """Globs of each key, in the order given; empty is all. variant: of the words that a run departs by; NONE of them.
    columns: what tables show beside the names. sort: a column, or "name"; else the order of `model`."""

    model: Names = ()
    task: Names = ()
    family: Names = ()
    budget: Names = ()
    machine: Names = ()
    variant: Names = ()
    columns: Names = ()
    sort: str | None = None

    def __bool__(self) -> bool:
        return self != Query()

    @property
    def words(self) -> list[str]:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return [
            f"{key}={value if isinstance(value, str) else ','.join(value)}" for key, value in given.items() if value
        ]

    def __str__(self) -> str:
        """As it is typed in a shell."""
        return shlex.join(self.words)

    @property
    def varied(self) -> bool:
        """Are runs with overrides to be ranked and drawn as models are?"""
        return bool(self.variant) and self.variant != (NONE,)

    def of(self, frame: pd.DataFrame, families: Families) -> pd.DataFrame:
        """The rows of cells or points that are chosen, models in the order that they are named in."""
        if frame.empty or not self:
            return frame
        kept = np.ones(len(frame), bool)
        for key in FILTERS:
            if getattr(self, key):
                kept &= self._kept(frame, key, families)
        out = frame[kept]
        return out.loc[out.model.map(lambda name: self.place("model", base(name))).sort_values(kind="stable").index]

    def check(self, frames: Sequence[pd.DataFrame], families: Families) -> None:
        """UserError, naming what there is, for a name that is on no record and for a choice that none is all of."""
        frames = [frame for frame in frames if len(frame)]
        for key in (k for k in FILTERS if getattr(self, k)):
            known = sorted({name for frame in frames for names in _names(frame, key, families) for name in names})
            for glob in getattr(self, key):
                if (key, glob) != ("variant", NONE) and not any(matches(glob, name) for name in known):
                    raise UserError(f"{key}: {glob} is on no record; there is {_listed(known)}.{nearest(glob, known)}")
        if frames and self and all(self.of(frame, families).empty for frame in frames):
            told = []
            for key in (k for k in FILTERS if getattr(self, k)):
                other = Query(**{k: getattr(self, k) for k in FILTERS if k != key})
                left = [names for f in frames for names in _names(other.of(f, families), key, families)]
                told.append(f"{key} {_listed(sorted({name for names in left for name in names}))}")
            raise UserError(f"{' '.join(self.words)}: no record is all of it; of the rest there is {'; '.join(told)}")

    def place(self, key: str, *names: str) -> int:
        """Which of the globs of a key one of these names is of; behind all others if it is of none."""
        globs = getattr(self, key)
        return next((i for i, glob in enumerate(globs) if any(matches(glob, name) for name in names)), len(globs))

    def _kept(self, frame: pd.DataFrame, key: str, families: Families) -> np.ndarray:
        globs = getattr(self, key)
        each = _names(frame, key, families)
        own = {names: any(matches(glob, name) for glob in globs for name in names) for names in set(each)}
        if key == "variant":  # of the model as the budget has it a word is not asked
            own[()] = True
        return np.array([own[names] for names in each])


def query(**values: str | Sequence[str] | None) -> Query:
    """Of lists, or of texts as the command line has them. UserError for what is no key or no name."""
    made: dict[str, Names | str] = {}
    for key, value in values.items():
        if key not in KEYS:
            raise UserError(f"{key}: is nothing to choose by; allowed: {', '.join(KEYS)}.{nearest(key, KEYS)}")
        if value is None:
            continue
        inside = re.fullmatch(r"\[(.*)\]", value) if isinstance(value, str) else None
        names = (inside[1] if inside else value).split(",") if isinstance(value, str) else value
        names = tuple(str(name).strip() for name in names)
        for name in names:
            if not name or UNFIT.search(name) or "," in name:
                raise UserError(f"{key}: {name!r} is no name; allowed: a list of names, * and ? for any letters")
        if key == "sort" and len(names) > 1:
            raise UserError(f"sort: {','.join(names)} are several; allowed: one column, or name")
        made[key] = names[0] if key == "sort" else names
    return Query(**made)


def asked(words: Sequence[str], keys: Sequence[str] = KEYS) -> tuple[Query, list[str]]:
    """The query that `key=value` words make, and the other words."""
    given, rest = taken(words, keys)
    return query(**given), rest


def base(name: str) -> str:
    """A model's own name, without the words that it departs by."""
    return name.split(" ", 1)[0]


def called(names: Iterable[str]) -> dict[str, str]:
    """Name with the words that a run departs by -> the same told apart by what differs: "performer features=128" of
    "performer model.mixer.features=128"; whole where another would be called so too."""
    names = list(dict.fromkeys(names))
    found = {name: " ".join([base(name), *(_brief(word) for word in name.split(" ")[1:])]) for name in names}
    counts = Counter(found.values())
    return {name: brief if counts[brief] == 1 else name for name, brief in found.items()}


def _brief(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{key.rpartition('.')[2]}{equals}{value}"


def matches(glob: str, name: str) -> bool:
    return _matcher(glob)(name) is not None


@cache
def _matcher(glob: str) -> Callable[[str], re.Match[str] | None]:
    """Of * and ? alone: brackets stand in lists that runs depart by."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in glob), re.DOTALL).fullmatch


def _names(frame: pd.DataFrame, key: str, families: Families) -> list[Names]:
    """Of each row, what the globs of a key are held against."""
    of: Callable[..., Names] = {
        "model": lambda model: (base(model),),
        "family": lambda model: (families[base(model)],) if base(model) in families else (),
        "variant": lambda model: tuple(n for word in model.split(" ")[1:] for n in (word, _brief(word))),
        "budget": lambda budget: (base(budget),),
        "machine": lambda machine: (machine,) if isinstance(machine, str) else (),
        "task": lambda *names: tuple(dict.fromkeys(names)),
    }[key]
    of_model = {"model": ["model"], "family": ["model"], "variant": ["model"]}
    columns = of_model.get(key, [c for c in (key, *["row"] * (key == "task")) if c in frame])
    if key == "machine" and "machines" in frame:
        return list(frame.machines)
    return [of(*values) for values in zip(*(frame[c] for c in columns), strict=True)]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST
    return (", ".join(names[:MOST]) or "nothing") + (f" and {more} more" if more > 0 else "")
