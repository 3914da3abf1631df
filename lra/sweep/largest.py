"""The largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable

from lra.measure.cost import Cost, failure


def largest(at: Callable[[int], Cost], limit: int, fixed: int = 1, known: Cost | None = None) -> Cost:
    """The cost at the largest power of two that fits into `limit` bytes, or why there is none.

    at: measures a batch size. known: what it found at the size `fixed`, to begin near the answer.
    A size that takes too long ends the search: what would fit beyond is not known.
    """
    size = 1
    if known is not None and known.status == "timeout":
        return failure("timeout", f"a batch of {fixed} takes too long already")
    if known is not None and known.status == "oom":
        if fixed == 1:
            return failure("oom", "not even a batch of 1 fits")
        size = power_of_two(fixed / 2)
    elif known is not None:
        size = power_of_two((limit - known.resident_bytes) / (known.step_peak_bytes / fixed))
    found = at(size)
    while found.status == "oom" and size > 1:
        size //= 2
        found = at(size)
        if found.status == "ok":
            return found
    while found.status == "ok":
        # Of the peak, only the gradients and less do not grow with the batch.
        least = found.total_bytes + found.step_peak_bytes - 4 * found.parameters
        if least > limit:
            return found
        size *= 2
        more = at(size)
        if more.status == "timeout":
            return more
        if more.status != "ok":
            return found
        found = more
    return found


def power_of_two(most: float) -> int:
    """The largest that is not above `most`, but at least 1."""
    return 1 << max(0, int(most).bit_length() - 1)
