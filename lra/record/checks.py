"""What the fields of a record may hold, put together once: a check is a function and the words for what it allows.

Everything that reads a record later trusts these checks, so that no table or figure has to.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lra.console import UNSEEN
from lra.record.record import STATUSES, Record

KINDS = ("model", "floor", "cost", "derived")
MOST = 1e300  # of a number: what is beyond is infinite in the next product
WHOLE = 2**63
LONGEST = 200  # characters of a name, and of whatever stands in a heading
LONGEST_LINE = 2000
LONGEST_COMMAND = 20_000
HALF = re.compile("[\ud800-\udfff]")
NO_NAME = re.compile(r"[/\\]|^\.|^~|^-|^\s|\s$")


@dataclass(frozen=True)
class Check:
    good: Callable[[Any], bool]
    words: str  # what is allowed


def number(v: Any) -> bool:
    return (type(v) is float or type(v) is int) and -MOST < v < MOST


def whole(v: Any) -> bool:
    return type(v) is int and -WHOLE <= v < WHOLE


def string(v: Any) -> bool:
    return type(v) is str and (v.isascii() or HALF.search(v) is None)


def line(v: Any) -> bool:
    return type(v) is str and len(v) <= LONGEST_LINE and UNSEEN.search(v) is None


def title(v: Any) -> bool:
    return line(v) and len(v) <= LONGEST


def name(v: Any) -> bool:
    """A plain name, of which a folder or a file can be made."""
    return line(v) and 0 < len(v) <= LONGEST and NO_NAME.search(v) is None


def _or_null(check: Check) -> Check:
    return Check(lambda v: v is None or check.good(v), f"{check.words} | None")


def _each(check: Check) -> Callable[[Any], bool]:
    good = check.good
    return lambda v: type(v) is list and all(map(good, v))


def one_of(allowed: Iterable[str]) -> Check:
    allowed = tuple(allowed)
    return Check(lambda v: type(v) is str and v in allowed, ", ".join(allowed))


NUMBER = Check(number, "float")
POSITIVE = Check(lambda v: number(v) and v > 0, "a number above 0")
NOT_NEGATIVE = Check(lambda v: number(v) and v >= 0, "a number, 0 or more")
COUNT = Check(lambda v: whole(v) and v >= 0, "a whole number, 0 or more")
SOME = Check(lambda v: whole(v) and v >= 1, "a whole number, 1 or more")
FRACTION = Check(lambda v: number(v) and 0 <= v <= 1, "float: a fraction from 0 to 1")
LINE = Check(line, f"str: a text of one line, of at most {LONGEST_LINE} characters")
TITLE = Check(title, f"str: a text of one line, of at most {LONGEST} characters")
NAME = Check(name, f"str: a name of at most {LONGEST} characters that a folder can have")
LINES = Check(lambda v: type(v) is dict and all(map(line, [*v, *v.values()])), "a mapping of texts of one line each")
TRUTH = Check(lambda v: type(v) is bool, "bool")
TEXTS = Check(lambda v: _each(LINE)(v) and len(v) <= LONGEST, f"list[str]: texts of one line each, at most {LONGEST}")
TEXT = Check(lambda v: string(v) and len(v) <= LONGEST_LINE, f"str: a text of at most {LONGEST_LINE} characters")
MAPPING = Check(lambda v: type(v) is dict, "Mapping[str, Any]")


def _of(kind: Any) -> Check:
    """The check that a type of `Record` stands for."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (one,) = (k for k in inside if k is not type(None))
        return _or_null(_of(one))
    if origin is list:
        own = _of(inside[0])
        return Check(_each(own), f"list[{own.words}]")
    if origin is not None:
        if inside[1] is Any:
            return MAPPING
        own = _of(inside[1]).good
        words = f"Mapping[str, {inside[1].__name__}]"
        return Check(lambda v: type(v) is dict and all(map(own, v.values())), words)
    return {str: Check(string, "str"), int: Check(whole, "int"), float: NUMBER, bool: TRUTH}[kind]


def _with(**inside: Check) -> Check:
    """A mapping that has these keys, each with its check."""

    def good(v: Any) -> bool:
        return type(v) is dict and all(key in v and check.good(v[key]) for key, check in inside.items())

    return Check(good, f"a mapping with {', '.join(inside)}")


LEVELS = {"floor": FRACTION, "ceiling": FRACTION}
S = Check(lambda v: number(v) and abs(v) <= 1000, "a number from -1000 to 1000")  # 0 at the floor, 1 at the ceiling
REACHED = _with(score=S, sequences=_or_null(COUNT), core_seconds=_or_null(NOT_NEGATIVE))
LENGTH = _with(length=SOME, accuracy=_or_null(FRACTION), test=_or_null(S), refused=_or_null(LINE))
KIND = _with(number=COUNT, accuracy=FRACTION, items=COUNT)
SCORE = _with(**LEVELS, test=S, learnt=TRUTH, reached=Check(_each(REACHED), "a list"))
REACH = _with(distance=SOME, share=FRACTION)
NUMBERS = Check(_each(NUMBER), "a list of numbers")
RUNG = _with(
    rate=POSITIVE,
    steps=COUNT,
    ended=_or_null(one_of(("dropped", "diverged", "enough"))),
    curve=_with(step=NUMBERS, valid_loss=NUMBERS, valid_accuracy=NUMBERS, core_seconds=NUMBERS),
)


def _score(v: Any) -> bool:
    """Of an exam without floor and ceiling there is none."""
    return v == {} or (SCORE.good(v) and v["floor"] < v["ceiling"])


# What a field must be besides its type.
NARROWER: Mapping[str, Check] = {
    "kind": one_of(KINDS),
    "status": one_of(STATUSES),
    **dict.fromkeys(("run_id", "task", "model"), NAME),
    **dict.fromkeys(("budget", "row", "config_hash", "started_utc"), TITLE),
    **dict.fromkeys(("dtype", "commit", "checkpoint", "digest"), _or_null(TITLE)),
    "parent": _or_null(NAME),
    "reason": _or_null(TEXT),
    "command": _or_null(Check(lambda v: string(v) and len(v) <= LONGEST_COMMAND, "str: a command of a shell's")),
    **dict.fromkeys(("accuracy_test", "accuracy_valid"), _or_null(FRACTION)),
    **dict.fromkeys(
        ("items_test", "items_valid", "parameters", "active_parameters", "length", "batch_size"), _or_null(SOME)
    ),
    "signal": _or_null(SOME),
    **dict.fromkeys(("steps_done", "steps_budget", "best_step", "state_floats"), _or_null(COUNT)),
    "variant": TEXTS,
    "ladder": Check(_each(RUNG), f"a list, each {RUNG.words}"),
    "noted": Check(
        lambda v: type(v) is dict and all(map(line, v)) and all(n is None or number(n) for n in v.values()),
        "a mapping of numbers, or null",
    ),
    "score": Check(_score, f"{SCORE.words}, the floor below the ceiling; or an empty one"),
}
FIELDS: tuple[tuple[str, Check], ...] = tuple(
    (f.name, NARROWER.get(f.name) or _of(typing.get_type_hints(Record)[f.name])) for f in fields(Record)
)

TIMES = {
    **dict.fromkeys(("examples_per_second", "tokens_per_second"), _or_null(POSITIVE)),
    **dict.fromkeys(("seconds_median", "seconds_min"), _or_null(POSITIVE)),
    **dict.fromkeys(("seconds_iqr", "cpu_seconds_median"), _or_null(NOT_NEGATIVE)),
    **dict.fromkeys(("seconds", "paces"), _or_null(Check(_each(POSITIVE), "a list of numbers above 0"))),
}
CEILINGS = {
    "copy_bytes_per_second": _or_null(POSITIVE),
    "gemm_float32_flops_per_second": _or_null(POSITIVE),
    "gemm_bf16_flops_per_second": _or_null(POSITIVE),
}
# What tables read inside the mappings of a record; a mapping that stands for a check is one inside it, or null.
# Keys that are not here may hold anything.
INSIDE: Mapping[str, Mapping[str, Any]] = {
    "config": {
        "exam": {
            "of": NAME,
            "title": TITLE,
            "order": NUMBER,
            "averages": Check(_each(SOME), "a list of whole numbers, 1 or more"),
            "all_or_nothing": TRUTH,
            **dict.fromkeys(("family", "cite"), _or_null(TITLE)),
            "asks": TITLE,
        },
        "test": _or_null(TRUTH),
        "search": {
            **dict.fromkeys(("trials", "trial"), _or_null(SOME)),
            "failed": _or_null(COUNT),
            "over": _or_null(TEXTS),
        },
        "about": {**dict.fromkeys(("title", "family", "cite"), _or_null(TITLE)), "uses_2d": _or_null(TRUTH)},
    },
    "data": {"fingerprint": _or_null(TITLE)},
    "machine": {
        **dict.fromkeys(("name", "device"), _or_null(TITLE)),
        **dict.fromkeys(("threads", "cores"), _or_null(SOME)),
        "memory_kept": _or_null(TRUTH),
    },
    "cost": {
        "status": one_of(STATUSES),
        **dict.fromkeys(("mode", "sweep", "curve"), _or_null(TITLE)),
        **dict.fromkeys(("step_peak_bytes", "point_seconds"), _or_null(POSITIVE)),
        "batch_size": _or_null(SOME),
        **dict.fromkeys(("train_flops", "inference_flops"), _or_null(NOT_NEGATIVE)),
        "disturbed": _or_null(TRUTH),
        "train": TIMES,
        "inference": TIMES,
        "ceilings": CEILINGS,
        "conditions": {"cores": SOME, "other_cores": _or_null(NUMBER)},
    },
    "minutes": {
        "of": one_of(("core", "device")),
        **dict.fromkeys(("asked", "step_seconds"), POSITIVE),
        "steps": SOME,
        **dict.fromkeys(("used", "pace", "pace_of_steps"), _or_null(POSITIVE)),
    },
    "training": {
        **dict.fromkeys(("seconds", "examples_per_second", "padding_share", "parts"), _or_null(NUMBER)),
        "pace": _or_null(POSITIVE),
        "undivided": _or_null(LINE),
    },
    "contract": {
        **dict.fromkeys(("broken", "unchecked"), LINES),
        "blind": _or_null(FRACTION),
        "reach": _or_null(Check(_each(REACH), f"a list, each {REACH.words}")),
        "seconds": _or_null(NOT_NEGATIVE),
    },
    "pretraining": {
        **dict.fromkeys(("objective", "use"), _or_null(NAME)),
        "share": _or_null(FRACTION),
        "steps": SOME,
        **dict.fromkeys(("batch_size", "examples", "tokens"), _or_null(COUNT)),
        **dict.fromkeys(("learning_rate", "pace"), _or_null(POSITIVE)),
        **dict.fromkeys(("seconds", "core_seconds", "loss_valid", "near_valid"), _or_null(NOT_NEGATIVE)),
        "accuracy_valid": _or_null(FRACTION),
    },
    "score": {
        "valid": _or_null(S),
        "on_valid": _with(**LEVELS),
        "lengths": Check(_each(LENGTH), LENGTH.words),
        "kinds": Check(lambda v: type(v) is dict and all(map(line, v)) and all(map(KIND.good, v.values())), KIND.words),
    },
    "predictions": {"file": NAME, "sha256": _or_null(LINE), "items": _or_null(COUNT)},
    "kept": {"file": NAME, "sha256": LINE},
}
STEP = {"step": COUNT, **dict.fromkeys(("train_loss", "valid_loss", "seconds"), _or_null(NUMBER))}
STEP["core_seconds"] = _or_null(NOT_NEGATIVE)
STEP["valid_accuracy"] = _or_null(FRACTION)
