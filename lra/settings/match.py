"""The width at which one model has as many parameters as another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from lra.errors import UserError
from lra.settings import build, compose
from lra.settings.schema import Settings

WIDEST = 1024  # steps of twice the heads


@dataclass(frozen=True)
class Match:
    """name: as tables have it, with the words that set the width. told: in a line, which width and how near."""

    name: str
    words: tuple[str, ...]
    told: str


def matched(a: str, b: str, task: str, budget: str, config_dir: Path | None = None) -> Match:
    """`a` at the width whose number of parameters is nearest to that of `b` as the budget has it: all of its widths
    (size.dim, qkv_dim, mlp_dim) by one factor, heads as many as before. Raises UserError where no width is near."""
    usual = [f"task={task}", f"budget={budget}"]
    aim = parameters(compose.config([*usual, f"model={b}"], config_dir))
    settings = compose.config([*usual, f"model={a}"], config_dir)
    size = settings.size
    step = 2 * size.heads  # of even heads, which rotary positions need

    def words(dim: int) -> list[str]:
        found = {"dim": dim}
        for name in ("qkv_dim", "mlp_dim"):
            value = getattr(size, name) * dim / size.dim
            found[name] = max(step, round(value / step) * step)
        return [f"size.{name}={value}" for name, value in found.items() if value != getattr(size, name)]

    def at(dim: int) -> Settings:
        return compose.config([*usual, f"model={a}", *words(dim)], config_dir)

    best = nearest(lambda n: parameters(at(n * step)), aim, max(1, size.dim // step))
    settings = at(best * step)
    count = parameters(settings)
    off = count / aim - 1
    if abs(off) > 0.1:
        raise UserError(f"match: no width of {a} on {task} has about the {aim:,} parameters of {b}; nearest {count:,}")
    chosen = words(best * step)
    name = " ".join([a, *settings.variant])
    told = f"{task}: {a} {' '.join(chosen) or 'as it is'}: {count:,} parameters, {b} {aim:,} ({100 * off:+z.1f} %)"
    return Match(name, tuple(chosen), told)


def nearest(count: Callable[[int], int], aim: int, start: int) -> int:
    """n in 1 to WIDEST whose count, which grows with n, is nearest to `aim`. Each costs a composition, so that few are
    asked for: by turns where the square of the width would have it, and the middle of what is left."""
    known = {start: count(start)}
    low, high, by_square = 0, WIDEST + 1, True
    while aim not in known.values():
        low = max((n for n, c in known.items() if c < aim), default=0)
        high = min((n for n, c in known.items() if c > aim), default=WIDEST + 1)
        if high - low < 2:
            break
        near = min(known, key=lambda n: abs(known[n] - aim))
        guess = round(near * sqrt(aim / known[near])) if by_square else (low + high) // 2
        guess = min(high - 1, max(low + 1, guess))
        known[guess], by_square = count(guess), not by_square
    return min(known, key=lambda n: (abs(known[n] - aim), n))


def parameters(settings: Settings) -> int:
    """Of the model, built without its weights. Raises UserError where it needs real numbers."""
    net = build.outline(settings, build.task(settings))
    if net is None:
        raise UserError(f"match: {settings.choices.model} cannot be sized without being built")
    return sum(p.numel() for p in net.parameters())
