"""The wrapper of every door: errors that are the user's to mend get one clear line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

# Spinning OpenMP threads make a step 3 to 5 times slower on busy cores. Read when torch loads, hence here, which
# every door imports first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

USAGE = 2
INTERRUPTED = 130


def code_of(status: str) -> int:
    """The exit code of a run by the status of its record."""
    return {"ok": 0, "interrupted": INTERRUPTED}.get(status, 1)


class UserError(Exception):
    """Bad input; the message names the field, the value and what is allowed."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """ " Did you mean a, b?" for the known names closest to `name`, or "" if none is close."""
    close = difflib.get_close_matches(name, sorted(set(known)), n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def first_line(error: BaseException) -> str:
    """What an exception says in its first line; its name if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def refuse(message: str) -> NoReturn:
    """Print one line and leave with exit code 2."""
    print(f"lra: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(USAGE)


def guarded(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main`: exit codes and messages are the same for every command, and what a terminal's
    encoding does not have is shown by a replacement."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = main()
    except UserError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        print("lra: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing left to say.
        sys.stderr.close()
        raise SystemExit(0) from None
    raise SystemExit(code or 0)
