"""Cells of lra.marks.abilities, as `each` gives them, and what their columns mean, as people read them."""

from __future__ import annotations

from typing import Any

NOTHING = "-"
OPEN = "…"  # at an end of a window of learning rates that may go on
BRIEFLY = (
    "seeds that have learnt the exam of all that ended; then thousands of training sequences until half of them had, "
    "or s where fewer have{within}"
)
LEGEND = (
    "s is 0 at the exam's floor, of ours the best rule from the five tokens around a position, and 1 at the best "
    "possible, on test; an exam is learnt from s = {threshold:g} on."
)


def learnt(cell: Any, join: str = " of ") -> str:
    """ "4 of 5" seeds, ", 1 failed" where others ended without a score; the status where none has one."""
    if not cell.seeds:
        return NOTHING if cell.status == "ok" else cell.status
    return f"{cell.learnt}{join}{cell.seeds}" + (f", {cell.failed} failed" if cell.failed else "")


def score(cell: Any) -> str:
    return NOTHING if cell.score is None else _fixed(cell.score, 3)


def _fixed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # of minus zero a zero


def sequences(cell: Any) -> str:
    """Until half of the seeds had learnt it: "12,800", or ">160,000" where that is not within the budget."""
    if not cell.seeds or cell.sequences is None:
        return NOTHING
    if cell.sequences == float("inf"):
        return NOTHING if cell.limit is None else f">{int(cell.limit):,}"
    return f"{int(cell.sequences):,}"


def thousands(cell: Any) -> str:
    """The same as "12.8k", ">160k"."""
    text = sequences(cell)
    sign, digits = text[: text.startswith(">")], text.lstrip(">").replace(",", "")
    return f"{sign}{int(digits) / 1000:g}k" if digits.isdecimal() else text


def brief(cell: Any) -> str:
    """What there is room for in a table of many columns: "12.8k" sequences, or "s 0.31" where fewer than half of the
    seeds have learnt it."""
    if not cell.seeds or cell.sequences is None:
        return NOTHING
    return f"s {_fixed(cell.score, 2)}" if cell.sequences == float("inf") else thousands(cell)


def core_seconds(cell: Any) -> str:
    found = cell.core_seconds
    if found is None or found == float("inf"):
        return NOTHING
    return f"{found:,.0f}" if 100 <= found < 1e7 else f"{found:.3g}"


def rates(cell: Any) -> str:
    """ "0.001–0.01…": learning rates that learn; the upper end is open."""
    if (found := cell.rates) is None:
        return NOTHING
    middle = f"{found.low:g}" if found.low == found.high else f"{found.low:g}–{found.high:g}"
    return f"{OPEN if found.below else ''}{middle}{OPEN if found.above else ''}"


def at_rates(cell: Any) -> str | None:
    """The same in words, with why an end is open."""
    if (found := cell.rates) is None:
        return None
    parts = [f"learnt at rates from {found.low:g} to {found.high:g}"]
    parts += [f"but not at {', '.join(f'{rate:g}' for rate in found.without)}"] if found.without else []
    parts += [f"below open ({found.below})"] if found.below else []
    parts += [f"above open ({found.above})"] if found.above else []
    return ", ".join(parts)


def capacity(cell: Any) -> str:
    """How far up the octaves of difficulty it is good: "12 [9, 15]", ">=16", "<2"."""
    if (found := cell.capacity) is None:
        return NOTHING if cell.seeds else learnt(cell)
    return found.words if found.value is None else f"{found.words} {found.between}"


def extent(cell: Any) -> str:
    """The same, and behind a bar how far the Jacobian lets it be, where that was asked."""
    seen = f" | {cell.sight.words}" if cell.capacity is not None and cell.sight is not None else ""
    return f"{capacity(cell)}{seen}"


def failure(cell: Any) -> str | None:
    """ "diverged (the loss …)", "1 of 5 seeds failed (…)"; null where none has."""
    if not cell.failed:
        return None
    why = cell.reason or "no reason recorded"
    return (
        f"{cell.failed} of {cell.seeds + cell.failed} seeds failed ({why})" if cell.seeds else f"{cell.status} ({why})"
    )
