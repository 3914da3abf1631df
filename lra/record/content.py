"""The content of a file that somebody else may have made: a regular file of bounded size, or one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MIB = 2**20


def content(path: str | Path, largest: int) -> bytes:
    """All bytes of `path`. Raises ValueError in one line, without the path, for anything but a regular file of
    at most `largest` bytes: a link, a folder, a device (which might never end or never begin)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if Path(path).is_symlink():
            raise ValueError("is a link; allowed a regular file") from error
        raise ValueError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("is no regular file")
        if about.st_size > largest:
            raise ValueError(f"has {about.st_size:,} bytes; allowed at most {largest // MIB} MiB")
        parts, left = [], largest + 1
        while left > 0 and (part := os.read(handle, min(left, about.st_size + 1))):
            parts.append(part)
            left -= len(part)
        if left <= 0:  # it grew while it was read
            raise ValueError(f"has more than {largest // MIB} MiB")
        return b"".join(parts)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    finally:
        os.close(handle)
