"""From the records to one leaderboard for each budget, machine and precision, and a board of abilities for each budget.

    python -m lra.leaderboard [results_dir=results[,more]] [--config-dir DIR]
                                                               the table, and leaderboard.{md,csv,tex,html} there
    python -m lra.leaderboard [results_dir=results[,more]] [out=FOLDER] --check
                                                               is what is published there what the records give?
    python -m lra.leaderboard model=performer,lin* task=listops sort=name [out=FOLDER or FILE.tex]
                       a part of them, by model, task, family, budget, machine, variant; columns=, sort=. Written to
                       out alone, with the choice in each file, so that --check can repeat it. Ranks stay those of all.
    --dry-run                                                  which of the files would be new or changed

    python -m lra.leaderboard model=mine,per* out=table.tex width=column|page [ours=mine] [label=tab:lra]
                       a table for a paper, its settings, and a paragraph of methods

Reads records only: neither torch nor the data are needed. How sure the numbers are: lra.marks.stats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from lra import results
from lra.console import line, say
from lra.errors import UserError
from lra.leaderboard import paper
from lra.leaderboard.paper import Paper
from lra.marks.query import KEYS, Query, asked
from lra.plot.forked import ahead
from lra.record.place import config_dir, out, published, results_dirs, unpublished
from lra.record.unfinished import left
from lra.settings.words import dry as dry_of

CHECK = "--check"


def main() -> int:
    place, words = out([w for w in sys.argv[1:] if w != CHECK])
    for_paper, words = paper.asked(words)
    dry, words = dry_of(words)
    chosen, rest = asked(words)
    folders, own = results_dirs(rest, (*KEYS, *paper.KEYS, "out")), config_dir(rest)
    if CHECK in sys.argv:
        from lra.leaderboard.verify import check

        if chosen:
            raise UserError(f"{CHECK}: takes the choice from the files; name their folder: out=FOLDER")
        return check(results.load(folders, own), place)
    if for_paper is not None and place is None:
        raise UserError("width, ours, label: are of a table for a paper; say where it goes, as out=table.tex")
    return write(folders, own, chosen, place, dry, for_paper)


def write(
    folders: list[Path],
    own: Path | None = None,
    chosen: Query | None = None,
    place: Path | None = None,
    dry: bool = False,
    for_paper: Paper | None = None,
) -> int:
    """The table to the terminal; every format to the first results folder, or to `place`, to which alone a choice
    goes; what cannot be shown to stderr."""
    from lra.leaderboard import abilities, files, predict, terminal
    from lra.leaderboard.view import boards

    with ahead(charts) as begin:
        found = results.load(folders, own)
        if found.cells.empty and found.abilities.empty:
            raise UserError(_nothing(found))
        found = found.selected(chosen or Query())
        kept = not found.chosen or place is not None
        drawn = begin(found.charted()) if kept else dict
        shown, able = boards(found), abilities.boards(found)
        more = () if found.chosen else (predict.tables(found), found.derived)
        given = files.files(shown, drawn(), able, *more) if kept else {}
        given = files.paper(found, shown, for_paper) if for_paper else given
    folder = place or found.folder
    if place is not None and place.suffix:
        given, folder = files.one(given, place), place.parent
    if dry:
        print(unpublished(folder, given))
        return 0
    published("out" if place else "results_dir", folder, given)
    print(terminal.render(shown, able=able))
    print("\n".join(unfinished(folders)))
    print("\n".join(["", *(f"written: {folder / name}" for name in given)]))
    if not kept:
        print("a part of the boards, which is written nowhere without out=FOLDER")
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
