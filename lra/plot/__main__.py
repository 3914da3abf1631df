"""Every figure of a results folder, from its records.

    python -m lra.plot [results_dir=results[,more]] [--config-dir DIR]

Writes figures/*.png and *.svg there, of several folders in the first. Reads records only, without torch. The same
records give the same bytes.
"""

from __future__ import annotations

import sys

from lra import results
from lra.console import line, say
from lra.plot.render import render, stale
from lra.record.place import config_dir, published, results_dirs


def main() -> int:
    folders = results_dirs(sys.argv[1:])
    found = results.load(folders, config_dir(sys.argv[1:]))
    folder = found.folder
    drawn = render(found)
    for remark in found.remarks():
        say(line(remark))
    published("results_dir", folder, drawn)
    for path in stale(folder, drawn):
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
