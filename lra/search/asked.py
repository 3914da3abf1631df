"""What the words of `python -m lra.search` ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lra.errors import UserError, nearest
from lra.search.space import Space, composed
from lra.settings import build
from lra.settings.schema import Settings
from lra.settings.words import split, taken

# Four families whose cost grows otherwise: all pairs, a kernel, blocks, a recurrence done as a convolution.
MODELS = "transformer,linear,local,s4d"
USUAL = {
    "size.depth": "1,2,3,4,6",
    "size.dim": ",".join(str(n) for n in range(32, 257, 32)),
    "size.heads": "1,2,4,8",
}
OURS = ("latency", "memory", "model", "lengths", "shapes", "seconds", *USUAL)
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
NOT_OURS = ("size.qkv_dim", "size.mlp_dim", "seed", "sweep", "minutes", "workers", "devices", "treatment", "checkpoint")
SHAPES, SECONDS = (4, 10_000), (0.01, 600.0)
SHORTEST = 16


@dataclass(frozen=True)
class Bounds:
    """Of one inference step on one example of full length: seconds, and bytes of weights and of what the step holds
    besides. null: as much as it takes."""

    latency: float | None
    memory: float | None


@dataclass(frozen=True)
class Asked:
    """words: what the runs at the end have besides model and sizes. lengths: rising; the last is the task's own."""

    bounds: Bounds
    space: Space
    lengths: tuple[int, ...]
    shapes: int
    seconds: float
    words: tuple[str, ...]
    config_dir: str | None

    @property
    def settings(self) -> Settings:
        """Those of any model: what is read of them all share."""
        return next(iter(self.space.models.values()))

    @property
    def results(self) -> Path:
        return Path(self.settings.results_dir)


def asked(typed: Sequence[str]) -> Asked:
    """Of a command line. Raises UserError, in one line, for a value that cannot be."""
    rest, folder = split(typed)
    given, words = taken(rest, OURS)
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key.split(".")[0] in NOT_OURS or key in NOT_OURS:
            raise UserError(f"{key}: is nothing that a search is told; allowed: {', '.join(OURS)}, the words of a run")
        if "=" not in word:
            raise UserError(f"{word!r} is not an option; write key=value, as latency=20ms{nearest(word, OURS)}")
    bounds = Bounds(_quantity(given, "latency", TIMES, "20ms"), _quantity(given, "memory", BYTES, "64MiB"))
    if bounds.latency is None and bounds.memory is None:
        raise UserError("latency, memory: neither is said; allowed: one or both, as latency=20ms memory=64MiB")
    if not any(w.startswith("task=") for w in words):
        raise UserError("task: is not said; allowed: one task, as task=listops")
    sizes = {key.partition(".")[2]: _numbers(key, given.get(key, usual)) for key, usual in USUAL.items()}
    models = list(dict.fromkeys(given.get("model", MODELS).split(",")))
    words = [*([] if any(w.startswith("budget=") for w in words) else ["budget=race"]), *words]
    shapes = _number(given, "shapes", 24, *SHAPES, whole=True)
    seconds = _number(given, "seconds", 1.0, *SECONDS, whole=False)
    said = _numbers("lengths", given["lengths"]) if "lengths" in given else None
    space = composed(models, sizes, words, folder)
    lengths = _lengths(said, next(iter(space.models.values())))
    return Asked(bounds, space, lengths, int(shapes), seconds, tuple(words), folder)


def _quantity(given: Mapping[str, str], key: str, units: Mapping[str, float], example: str) -> float | None:
    if key not in given:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]+)", given[key], re.ASCII)
    if not found or found[2] not in units or not float(found[1]) > 0:
        raise UserError(
            f"{key}: {given[key]!r} is not a number above 0 with a unit, {', '.join(units)}, as {key}={example}"
        )
    return float(found[1]) * units[found[2]]


def _numbers(key: str, text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, rising."""
    parts = text.removeprefix("[").removesuffix("]").split(",")
    if not all(re.fullmatch(r"[0-9]{1,6}", p) and int(p) for p in parts):
        raise UserError(f"{key}: {text!r} is not a list of whole numbers of at least 1, as {key}=1,2,4")
    return tuple(sorted({int(p) for p in parts}))


def _number(given: Mapping[str, str], key: str, usual: float, low: float, high: float, whole: bool) -> float:
    text = given.get(key, str(usual))
    pattern = r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]+)?"
    if not re.fullmatch(pattern, text) or not low <= float(text) <= high:
        kind = "whole number" if whole else "number"
        raise UserError(f"{key}: {text!r} is not a {kind} from {low:g} to {high:g}")
    return float(text)


def _lengths(said: tuple[int, ...] | None, own: Settings) -> tuple[int, ...]:
    """Those that are said and the task's own; else a quarter and half of it too."""
    full = build.task(own).max_len
    if said is None:
        return tuple(sorted(n for n in {full // 4, full // 2, full} if n == full or n >= SHORTEST))
    if said[-1] > full:
        raise UserError(f"lengths: {said[-1]} is above the {full} tokens of the task; see task.max_len")
    return tuple(sorted({*said, full}))
