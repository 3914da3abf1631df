"""Every figure of a results folder, from its records.

    python -m lra.plot [results_dir=results[,more]] [--config-dir DIR]
    python -m lra.plot x=core_seconds y=skill area=parameters [to=0.4]      the bubble chart of that alone
                       x: speed, core_seconds, flops; y: accuracy, skill, reach, learnt; area: memory, parameters, state
    python -m lra.plot over=model.mixer.features             what a sweep over a setting has found: figures and a table
    python -m lra.plot model=performer,lin* task=listops [out=FOLDER]
                       a part of them, by model, task, family, budget, machine, variant; each file carries the choice
    --dry-run                                                which files would be new, changed or removed

Writes figures/*.png and *.svg there, of several folders in the first; with out to that folder. Reads records only,
without torch. The same records give the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lra import results
from lra.console import line, say
from lra.marks.query import FILTERS
from lra.plot.choice import AXES
from lra.plot.chosen import asked_for
from lra.plot.over import OVER
from lra.plot.render import stale
from lra.record.place import config_dir, out, published, results_dirs, unpublished
from lra.settings.words import dry as dry_of

KEYS = (*FILTERS, *AXES, OVER)


def main() -> int:
    place, words = out(sys.argv[1:])
    dry, words = dry_of(words)
    chosen = [word for word in words if word.partition("=")[0] in KEYS]
    rest = [word for word in words if word not in chosen]
    folders = results_dirs(rest, (*KEYS, "out"))
    found = results.load(folders, config_dir(rest))
    drawn, told = asked_for(found, chosen, place is not None)
    if told:
        print(told)
    for remark in found.remarks():
        say(line(remark))
    if place is not None:
        drawn = {Path(name).name: content for name, content in drawn.items()}
    folder = place or found.folder
    gone = stale(folder, drawn) if not chosen and place is None else []
    if dry:
        print(unpublished(folder, drawn))
        for path in gone:
            print(f"would be removed, no record gives it any more: {path}")
        return 0
    published("results_dir" if place is None else "out", folder, drawn)
    for path in gone:
        path.unlink()
        print(f"removed, no record gives it any more: {path}")
    for name in drawn:
        if name.endswith(".png"):
            print(f"written: {folder / name}, .svg")
        elif name.endswith(".csv"):
            print(f"written: {folder / name}")
    if not drawn:
        print("nothing to draw: no finished run of a budget as it stands (runs with overrides are other exams)")
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
