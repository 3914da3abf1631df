"""How far the sweeps of a results folder have come: done, running, waiting, interrupted, failed.

python -m lra.sweep status [results_dir=results]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lra.errors import UserError, guarded, nearest
from lra.record.place import options

COMMANDS = ("status",)


def main() -> int:
    command, *words = sys.argv[1:] or ["status"]
    if command not in COMMANDS:
        raise UserError(f"{command!r} is not one of {', '.join(COMMANDS)}.{nearest(command, COMMANDS)}")
    from lra.sweep.overview import status

    print(status(Path(os.path.expanduser(options(words)["results_dir"]))))  # noqa: PTH111
    return 0


if __name__ == "__main__":
    guarded(main, __doc__)
