"""python -m lra.record merge INTO FROM [FROM ...] [--dry-run]: bring the records of other results folders into one.

Nothing is replaced and nothing removed: what is there already is left, a record of the same name with another content
is named as a conflict, and typing it again does what is missing. Exit codes: 0 all is there, 1 something did not come,
2 bad input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lra.console import line, say
from lra.errors import UserError
from lra.record.merge import merge
from lra.settings.words import dry as dry_of


def main() -> int:
    dry, words = dry_of(sys.argv[1:])
    verb, *folders = words or [""]
    if verb != "merge" or len(folders) < 2:
        raise UserError("python -m lra.record merge INTO FROM [FROM ...]: name the verb merge and two folders or more")
    refused = False
    for name in folders[1:]:
        out = merge(Path(folders[0]), Path(name), dry)
        print(
            f"{name}: {out.copied} {'to copy' if dry else 'copied'}, {out.there} there already, {len(out.refused)} not"
        )
        for path, why in out.refused:
            say(line(f"not copied: {path}: {why}"))
        refused |= bool(out.refused)
    return 1 if refused else 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
