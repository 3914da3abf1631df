"""Where figures lie and what their files are called; nothing is drawn here, so that a page can ask without waiting
for what draws."""

from __future__ import annotations

import zlib

FOLDER = "figures"
COMMAND = "python -m lra.plot"

LONGEST = 150  # of a file's name, with room for what is put before and behind it


def slug(text: str) -> str:
    """A file name from free text; of one that is too long the beginning, and digits that tell it from others."""
    name = "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
    if len(name.encode()) <= LONGEST:
        return name
    return f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{zlib.crc32(text.encode()):08x}"
