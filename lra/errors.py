"""The wrapper of every door: errors that are the user's to mend get one clear line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

# Spinning OpenMP threads make a step 3 to 5 times slower on busy cores. Read when torch loads, hence here, which
# every door imports first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

USAGE = 2
# What a disk or a folder may say to anybody who writes there: no fault of the code's.
OF_A_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG)
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


def interrupted() -> NoReturn:
    """Say so and leave with its exit code."""
    print("lra: interrupted", file=sys.stderr)
    raise SystemExit(INTERRUPTED) from None


def guarded(main: Callable[[], int | None], about: str | None = None) -> NoReturn:
    """Run a command's `main`: exit codes and messages are the same for every command, and what a terminal's
    encoding does not have is shown by a replacement. about: what `--help` prints, of a command without a parser."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if about is not None and {"-h", "--help"} & set(sys.argv[1:]):
        print(about.strip())
        raise SystemExit(0)
    try:
        code = main()
    except UserError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        interrupted()
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing left to say.
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in OF_A_PLACE:
            raise
        refuse(f"{error.filename or 'writing'}: {error.strerror}")
    raise SystemExit(code or 0)
