"""From the records to one leaderboard for each budget, machine and precision, and a board of abilities for each budget.

    python -m lra.leaderboard [results_dir=results[,more]] [--config-dir DIR]
                                                               the table, and leaderboard.{md,csv,tex,html} there
    python -m lra.leaderboard [results_dir=results[,more]] --check    is what is published there what the records give?
    python -m lra.leaderboard [results_dir=results[,more]] --dry-run  which of those files would be new or changed

Reads records only: neither torch nor the data are needed. How sure the numbers are: lra.marks.stats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from lra import results
from lra.console import line, say
from lra.errors import UserError
from lra.plot.forked import ahead
from lra.record.place import config_dir, published, results_dirs, unpublished
from lra.record.unfinished import left
from lra.settings.words import dry as dry_of

CHECK = "--check"


def main() -> int:
    words = sys.argv[1:]
    dry, rest = dry_of([w for w in words if w != CHECK])
    folders, own = results_dirs(rest), config_dir(rest)
    if CHECK in words:
        from lra.leaderboard.verify import check

        return check(results.load(folders, own))
    return write(folders, own, dry)


def write(folders: list[Path], own: Path | None = None, dry: bool = False) -> int:
    """The table to the terminal, every format to the first results folder; what cannot be shown to stderr."""
    from lra.leaderboard import abilities, files, predict, terminal
    from lra.leaderboard.view import boards

    with ahead(charts) as begin:
        found = results.load(folders, own)
        if found.cells.empty and found.abilities.empty:
            raise UserError(_nothing(found))
        drawn = begin(found.charted())
        shown, able = boards(found), abilities.boards(found)
        given = files.files(shown, drawn(), able, predict.tables(found))
    folder = found.folder
    if dry:
        print(unpublished(folder, given))
        return 0
    published("results_dir", folder, given)
    print(terminal.render(shown, able=able))
    print("\n".join(unfinished(folders)))
    print("\n".join(["", *(f"written: {folder / name}" for name in given)]))
    for remark in found.remarks():
        say(line(remark))
    return 0


def unfinished(folders: list[Path]) -> list[str]:
    """A line for each run that has a state and no record. Not published: what is there changes with every step."""
    return [
        line(
            f"unfinished: {row['task']} {row['model']} s{row['seed']}, budget {row['budget']}: "
            f"step {row['step']} of {row['steps']}; the same command goes on from there"
        )
        for folder in folders
        for row in left(folder)
    ]


def charts() -> Callable[[results.Results], dict[str, bytes]]:
    """What draws the bubble charts for the page: to import it takes as long as all else, hence only there."""
    from lra.plot import render

    return render.charts


def _nothing(found: results.Results) -> str:
    if found.broken:
        (file, said), more = found.broken[0], len(found.broken) - 1
        return f"no record can be shown: {file}: {said}" + f" (and {more} more)" * bool(more)
    return f"results_dir: no finished run in {found.folder / 'runs'}; make one: python -m lra task=listops"


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
