"""PNG: what the header says, before anything is decoded that may be larger than it looks."""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 1 << 20  # bytes of an encoded image; 256 x 256 in 8-bit grey take 64 KiB without any compression
GREY, RGB = 0, 2
KINDS = {GREY: "grey", RGB: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}


class Header(NamedTuple):
    """The image header of a PNG (W3C Portable Network Graphics, section 11.2.1)."""

    width: int
    height: int
    depth: int  # bits of a sample
    kind: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} pixels of {self.depth}-bit {KINDS.get(self.kind, f'kind {self.kind}')}"


def header(encoded: bytes) -> Header:
    """Raises ValueError for what is no PNG."""
    if not encoded.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    if len(encoded) < 33 or encoded[12:16] != b"IHDR":
        raise ValueError("a PNG cut short")
    return Header(*struct.unpack(">IIBB", encoded[16:26]))


def pixels(encoded: bytes, side: int, mode: str, kind: str = "PNG") -> np.ndarray:
    """uint8 (side, side) of mode "L" or (side, side, 3) of "RGB", of a PNG or JPEG of that size and mode.
    Raises ValueError for any other and for what cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=(kind,)) as image:  # reads no pixel yet
            size, found = image.size, image.mode
            decoded = np.asarray(image) if (size, found) == ((side, side), mode) else None
    except Exception as error:  # a forged image fails in any way it likes
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    if decoded is None:
        raise ValueError(f"it is {size[0]}x{size[1]} of mode {found}; {side}x{side} of mode {mode} is needed")
    return decoded
