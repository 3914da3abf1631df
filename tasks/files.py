"""Files of the user's, read with bounds: whatever they hold, memory, time and messages stay small."""

from __future__ import annotations

import errno
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lra.tasks.base import DataError

LONGEST_LINE = 1 << 20  # bytes; the longest of a release's ListOps files has 12 thousand
LARGEST_JSON = 1 << 26
MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
LONGEST_ROW = 1 << 26  # bytes; a file that is no TSV must not be read into memory whole


def opened(file: Path) -> BinaryIO:
    """A file for reading; OSError for what is none, such as a pipe, which would be waited for without end."""
    if not stat.S_ISREG(mode := file.stat().st_mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code) if stat.S_ISDIR(mode) else "not a file", str(file))
    return file.open("rb")


def whole(file: Path, most: int) -> bytes:
    """All bytes of a file of at most `most`. Raises OSError."""
    with opened(file) as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes, the most there can be", str(file))
    return content


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of each line of an ASCII file, ended by LF or CRLF. Raises DataError."""
    try:
        with opened(file) as handle:
            number = 0
            while line := handle.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1:
                    check_mark(line, str(file))
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{file}:{number}: longer than {LONGEST_LINE >> 20} MiB, which no line is")
                try:
                    yield number, line.rstrip(b"\r\n").decode("ascii")
                except UnicodeDecodeError as error:
                    byte = line[error.start]
                    raise DataError(
                        f"{file}:{number}: byte {byte:#x} at {error.start}; it is not the plain text of the release"
                    ) from error
    except OSError as error:
        raise DataError(f"task.path: {file} cannot be read ({error.strerror or error})") from error


def check_mark(beginning: bytes, where: str) -> None:
    """Raise DataError for a byte order mark, which some editors put before a file's first character."""
    for mark, coding in MARKS.items():
        if beginning.startswith(mark):
            raise DataError(f"{where}: begins with a byte order mark of {coding}; save it as plain ASCII, without one")


def parsed(file: Path) -> Any:
    """What a JSON file holds. Raises OSError, or ValueError for what is no JSON or nests without end."""
    try:
        return json.loads(whole(file, LARGEST_JSON))
    except RecursionError:
        raise ValueError("nested too deep") from None


def shown(value: object, most: int = 40) -> str:
    """A text or number as a message shows it, cut; of anything else its type, whose `repr` may have no end."""
    if isinstance(value, (str, bytes)):
        text = repr(value[: most + 1])
    elif value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**most):
        text = repr(value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= most + 2 else f"{text[:most]}..."


class Member(tarfile.TarInfo):
    """For `tarfile.open(..., tarinfo=Member)`: a name of a gigabyte is refused before it is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        member = super().frombuf(buf, encoding, errors)
        if member.type in LONG_NAMES and member.size > LONGEST_LINE:
            raise tarfile.ReadError(f"a name or header of {member.size:,} bytes")
        return member
