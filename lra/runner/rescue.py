"""A record that its folder cannot take is kept elsewhere: what was found out is not lost to a full disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from lra.console import say
from lra.errors import UserError
from lra.settings.schema import Settings


def written(settings: Settings, write: Callable[[Path], Path], show: Callable[[], str]) -> Path:
    """`write(results folder)`, tried in the folder asked for, then beside what is not kept, then where the system
    has its temporary files. Where none can hold it, it is printed as `show` gives it, and a UserError raised.
    """
    results, troubles = Path(settings.results_dir), []
    for place in (results, Path(settings.output_dir) / "rescued", Path(tempfile.gettempdir()) / "lra-rescued"):
        try:
            path = write(place)
        except OSError as error:
            troubles.append(f"{place}: {error.strerror or error}")
            continue
        if place != results:
            say(f"results_dir: {troubles[0]}; the record lies in {place}, to be copied there when it can be")
        return path
    print(show(), flush=True)
    raise UserError(f"results_dir: no folder holds the record, which is printed above ({'; '.join(troubles)})")
