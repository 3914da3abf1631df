"""Every figure of a results folder, from its records.

    python -m lra.plot [results_dir=results[,more]] [--config-dir DIR]
    python -m lra.plot x=core_seconds y=skill area=parameters [to=0.4]      the bubble chart of that alone
                       x: speed, core_seconds, flops; y: accuracy, skill, reach, learnt; area: memory, parameters, state
    python -m lra.plot over=model.mixer.features [task=] [model=] [budget=]   what a sweep over a setting has found
    --dry-run                                                which files would be new, changed or removed

Writes figures/*.png and *.svg there, of several folders in the first. Reads records only, without torch. The same
records give the same bytes.
"""

from __future__ import annotations

import sys

from lra import console, results
from lra.console import line, say
from lra.plot import over as settings_over
from lra.plot.choice import asked
from lra.plot.over import HEAD
from lra.plot.render import chosen, filed, render, stale
from lra.record.place import config_dir, published, results_dirs, unpublished
from lra.settings.words import dry as dry_of


def main() -> int:
    dry, given = dry_of(sys.argv[1:])
    over, given = settings_over.asked(given)
    choice, words = asked(given)
    folders = results_dirs(words)
    found = results.load(folders, config_dir(words))
    folder = found.folder
    if over is not None:
        table = settings_over.found(found, over, config_dir(words))
        print(console.table(settings_over.lines(table), [HEAD[0], over.key, *HEAD[2:]]))
        drawn = settings_over.written(table, over.key)
    else:
        drawn = render(found) if choice is None else filed(chosen(found, choice))
    only = over is not None or choice is not None
    for remark in found.remarks():
        say(line(remark))
    if dry:
        print(unpublished(folder, drawn))
        for path in () if only else stale(folder, drawn):
            print(f"would be removed, no record gives it any more: {path}")
        return 0
    published("results_dir", folder, drawn)
    for path in () if only else stale(folder, drawn):
        path.unlink()
        print(f"removed, no record gives it any more: {path}")
    for name in drawn:
        if name.endswith(".png"):
            print(f"written: {folder / name}, .svg")
    if not drawn:
        print("nothing to draw: no finished run of a budget as it stands (runs with overrides are other exams)")
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
