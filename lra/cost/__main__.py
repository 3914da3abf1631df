"""Exponents, crossings, ratios from the records of `python -m lra sweep=cost`.

    python -m lra.cost [results_dir=results[,more]] [--repeats]
    python -m lra.cost model=performer,lin* machine=Intel*       those alone, by model, task, family, budget, machine

Reads records only: neither torch nor the data are needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from lra.console import line, say
from lra.cost.growth import repeats
from lra.cost.points import GROUP, frame, rows
from lra.cost.table import as_table
from lra.errors import UserError
from lra.marks.about import families
from lra.marks.query import FILTERS, asked
from lra.record.place import results_dirs
from lra.record.store import sheets

BY = tuple(key for key in FILTERS if key != "variant")


def read(folders: list[Path]) -> pd.DataFrame:
    """The points of results folders, one that lies in two of them once; a line on stderr for each file that is none
    or was changed."""
    found, damaged, seen = [], [], set()
    for sheet in (sheet for folder in folders for sheet in sheets(folder, damaged.append)):
        own = rows(sheet) if sheet.record.run_id not in seen else []
        if own:
            seen.add(sheet.record.run_id)
            found += own
            if sheet.edited:
                say(line(f"shown, but edited after it was written: {sheet.path}"))
    for error in damaged:
        say(line(f"not shown: {error}"))
    return frame(found)


def main() -> int:
    chosen, words = asked([w for w in sys.argv[1:] if w != "--repeats"], BY)
    points = read(results_dirs(words, BY))
    if points.empty:
        raise UserError("no cost points there; measure some with python -m lra sweep=cost")
    known = families()
    chosen.check([points], known)
    if "--repeats" in sys.argv:
        found = repeats(chosen.of(points, known))
        print(found.drop(columns=GROUP).to_string(index=False) if len(found) else "no point was measured by two sweeps")
        return 0 if len(found) else 1
    print(as_table(points, shown=chosen.of(points, known)), end="")
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
