"""From the records to one leaderboard for each budget, machine and precision.

    python -m lra.leaderboard [results_dir=results]            the table, and leaderboard.{md,csv,tex,html} there
    python -m lra.leaderboard [results_dir=results] --check    is what is published there what the records give?

Reads records only: neither torch nor the data are needed. How sure the numbers are: lra.marks.stats.
"""

from __future__ import annotations

import sys

from lra.errors import UserError
from lra.record.place import results_dir

CHECK = "--check"


def main() -> int:
    from lra.leaderboard import files

    words = sys.argv[1:]
    folder = results_dir([w for w in words if w != CHECK])
    if CHECK in words:
        from lra.leaderboard.verify import check

        return check(folder)
    from lra.leaderboard import terminal
    from lra.plot import render
    from lra.plot.forked import beside

    with beside(render.charts, folder) as drawn:
        boards = files.boards(folder)
        if not boards:
            raise UserError(f"results_dir: no finished run in {folder / 'runs'}; make one: python -m lra task=listops")
        given = files.files(boards, drawn())
    for name, content in given.items():
        (folder / name).write_bytes(content)
    print(terminal.render(boards))
    print("\n".join(["", *(f"written: {folder / name}" for name in given)]))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
