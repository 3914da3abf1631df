"""Ability: what the small exams share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from lra.tasks.ability.draw import Source
from lra.tasks.ability.items import ENDLESS, Drawn, Items
from lra.tasks.ability.rules import Rule, majority, window
from lra.tasks.base import NOT_ASKED, DataError, Split, Task

VERSION = 1  # of what is drawn; another one is another exam
SIZES = (500, 2000)
REACH = 2  # tokens to either side that a rule without a mixer may see

Scalar = int | float | str | bool
Option = Scalar | Sequence[float]


class Ability(Task):
    """A generated exam with answers at positions.

    A subclass says in `ranges` what its options may be, (least, most) or the words allowed, hands their values to
    this constructor, sets `symbols`, `num_classes` and, where answers are reported apart, `kinds`, and implements
    `draw`. sizes: of valid and test; training draws from a stream, of which item i is a function of the seed and i.
    No content is in two splits: an item that valid or test holds is drawn again. test_len: lengths of `twin`s that a
    model is tested at besides, without having been trained there. items: so many of the stream's first are all that
    there is to train on, over and over (as MAD has it); null: the stream has no end.
    """

    answers = "token"
    ranges: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    kinds: tuple[str, ...] = ("all",)
    local_rules = ("majority", "window1", "window5")
    ceiling_rule: str  # of `rules`, where `ceiling` knows no formula

    def __init__(
        self,
        name: str,
        max_len: int,
        options: Mapping[str, Option],
        sizes: tuple[int, int] = SIZES,
        seed: int = 0,
        test_len: Sequence[int] = (),
        items: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if not isinstance(test_len, (list, tuple)) or any(not whole(n) or n < 1 for n in test_len):
            raise DataError(f"task.test_len: {test_len!r} is not a list of lengths in tokens")
        self.test_len = tuple(test_len)
        if len(sizes) != 2 or any(not whole(n) or n < 1 for n in sizes):
            raise DataError(f"task.sizes: {list(sizes)} is not two positive numbers (valid, test)")
        taken("seed", seed, (0, 2**61 - 1))
        self.items = items if items is None else taken("items", items, (1, 2**24))
        self.options = {field: taken(field, value, self.ranges[field]) for field, value in options.items()}
        self.sizes, self.seed = tuple(sizes), seed
        self._levels: dict[str, tuple[float, float]] = {}

    @property
    def vocab_size(self) -> int:
        return len(self.symbols) + 1

    @property
    def row(self) -> str:
        """The exam, whatever a YAML calls it, and all that is not its own: recall-128-pairs16."""
        usual = inspect.signature(type(self).__init__).parameters
        apart = {k: v for k, v in self.options.items() if v != usual[k].default}
        length = () if self.max_len == self.standard_len else (str(self.max_len),)
        some = () if self.items is None else (worded("items", self.items),)
        return "-".join((usual["name"].default, *length, *(worded(k, v) for k, v in apart.items()), *some))

    def twin(self, length: int) -> Ability:
        """The same exam at another length. Raises DataError if it has none."""
        same = {"name": self.name, "sizes": self.sizes, "seed": self.seed, "items": self.items, **self.options}
        return type(self)(max_len=length, **same)

    def draw(self, source: Source, indices: np.ndarray, split: str) -> Drawn:
        """The items of `indices` (n,) of a split, from a source of n items."""
        raise NotImplementedError

    def load(self) -> Mapping[str, Split]:
        def items(split: str, number: int, count: int, *held: Items) -> Items:
            return Items(
                self.seed * 4 + number,
                count,
                self.max_len,
                partial(self.draw, split=split),
                held,
                endless=split == "train" and self.items is None,
            )

        test = items("test", 2, self.sizes[1])
        valid = items("valid", 1, self.sizes[0], test)
        return {"train": items("train", 0, self.items or ENDLESS, valid, test), "valid": valid, "test": test}

    def identity(self) -> Any:
        some = {} if self.items is None else {"items": self.items}
        return {"generator": VERSION, "sizes": self.sizes, "seed": self.seed, **some, **self.options}

    def floor(self, reach: int, split: str = "test") -> float | None:
        """Exact share that the best rule gets right which knows the position and the tokens from -reach to +reach,
        on the law of that split; null where it is measured only."""
        return None

    def ceiling(self) -> float | None:
        """The best possible; null where it is measured only."""
        return 1.0

    def levels(self, split: str) -> tuple[float, float] | None:
        """Floor, that of the best rule from the tokens within REACH, and ceiling; measured on the split where no
        formula is known. Null where that rule is as good as any."""
        if split not in self._levels:
            floor, ceiling = self.floor(REACH, split), self.ceiling()
            self._levels[split] = (
                self._measured(split, self.in_sight(REACH)) if floor is None else floor,
                self._measured(split, self.rules()[self.ceiling_rule]) if ceiling is None else ceiling,
            )
        floor, ceiling = self._levels[split]
        return (floor, ceiling) if floor < ceiling else None

    def _measured(self, split: str, rule: Rule) -> float:
        asked = self.split(split)
        right = rule(self.split("train"), asked) == asked.labels
        return float(right[asked.labels != NOT_ASKED].mean())

    def notes(self) -> dict[str, Any]:
        levels = {"chance": 1 / self.num_classes, "floor": self.floor(0), "floor_of_5": self.floor(2)}
        return {**self.options, **levels, "ceiling": self.ceiling(), "disjoint": "by content"}

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`."""
        return {
            "source": "generated here, item by item",
            "found": True,
            "bytes": 0,
            "licence": "Apache-2.0 (generator)",
            "how": "nothing is stored",
        }

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return {"majority": majority, "window1": self.in_sight(0), "window5": self.in_sight(2)}

    def in_sight(self, reach: int) -> Rule:
        """The rule whose exact score is `floor(reach)`, or near it; here, what such a rule learns by counting."""
        return window(reach)

    def asked_kinds(self, split: str) -> np.ndarray | None:
        """Which of `kinds` each answer of valid or test is, in the order of the answers, (answers,); null if there is
        one kind."""
        if len(self.kinds) < 2:
            return None
        whole_split = self.split(split).all
        return whole_split.kinds[whole_split.labels != NOT_ASKED]


def worded(field: str, value: Option) -> str:
    """An option as a row's name shows it: pairs16, adjacent, tested0.8x0.1."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return field if value else f"no_{field}"
    return field + "x".join(map(str, value)) if isinstance(value, tuple) else f"{field}{value}"


def whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def taken(field: str, value: Option, allowed: tuple[Scalar, ...]) -> Option:
    """An option as it is kept, real numbers as such. Raises DataError for one that is not allowed."""
    if isinstance(value, (list, tuple)):
        return tuple(taken(field, one, allowed) for one in value)
    complaint = refused(value, allowed)
    if complaint:
        raise DataError(f"task.{field}: {value!r} is not {complaint}")
    return float(value) if isinstance(allowed[0], float) else value


def refused(value: object, allowed: tuple[Scalar, ...]) -> str | None:
    """What `value` ought to be, if it is not: one of some words, or in a range of whole or of real numbers."""
    if isinstance(allowed[0], (str, bool)):
        return (
            None if type(value) is type(allowed[0]) and value in allowed else f"one of {', '.join(map(str, allowed))}"
        )
    low, high = allowed
    if whole(low) and whole(high):
        return None if whole(value) and low <= value <= high else f"a whole number from {low} to {high}"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if number and low <= value <= high else f"a number from {low} to {high}"


def blank(count: int, length: int, filler: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """tokens all `filler`, labels that ask nothing and kinds 0, each (count, length)."""
    shape = (count, length)
    return np.full(shape, filler, np.int64), np.full(shape, NOT_ASKED, np.int64), np.zeros(shape, np.int64)


def named(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))
