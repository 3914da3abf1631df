"""Numbers as people read them: plain-text tables, sizes, rates."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

# What nobody sees and a terminal or a parser obeys: control characters and line ends, marks that turn the direction
# of what follows, half characters.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def line(text: str) -> str:
    """Text from elsewhere in one line, with nothing in it that is not seen: line ends become spaces."""
    return UNSEEN.sub(lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> str:
    """Columns aligned by spaces; the first to the left, the others to the right."""
    lines = [list(map(str, r)) for r in ([header] if header else [])] + [list(map(str, r)) for r in rows]
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def text(line: list[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()

    out = [text(line) for line in lines]
    if header:
        out.insert(1, "-" * max(map(len, out)))
    return "\n".join(out)


def size(count: float | None) -> str:
    """Bytes in MiB or GiB."""
    if count is None:
        return "-"
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def parameters(of: Any) -> str:
    """ "85,386 parameters"; how many a token meets where those are fewer. of: what has `parameters` and
    `active_parameters`, which are null, or not a number, where they are not known."""
    whole, active = of.parameters, of.active_parameters
    text = f"{int(whole or 0):,} parameters"
    return f"{text}, {int(active):,} of them active" if active is not None and active < (whole or 0) else text


def rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
