"""The release's layout of Pathfinder:
`pathfinder{R}/{difficulty}/{imgs/<k>/sample_<i>.png, metadata/<k>.npy}`.

Metadata are plain text whatever their name, a line an image: folder, file, index, label,
continuity, contour length, and on. (spec 1.7)
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lra.tasks.base import DataError, digest

DIFFICULTIES = {6: "curv_baseline", 9: "curv_contour_length_9", 14: "curv_contour_length_14"}
NESTED = ("lra_release/lra_release", "lra_release", "")  # the archive unpacks into a doubled folder
WHOLE = 200_000  # images of a difficulty

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A line of metadata: `where` is file:line, for messages."""

    where: str
    image: Path
    label: int


def find(path: str | Path, resolution: int, contour_length: int) -> Path:
    """The difficulty's folder at or below `path`. DataError says what is there instead.

    The archive holds pathfinder128 twice, and the labels of one cannot be learnt (issue 38 of
    google-research/long-range-arena); the inner one, which the official setup script takes, is
    found first.
    """
    root, wanted = Path(path).expanduser(), DIFFICULTIES[contour_length]
    if not root.is_dir():
        raise DataError(f"task.path: {root} is not a folder")
    size = f"pathfinder{resolution}"
    places = [root / nest / size for nest in NESTED] + [root / nest for nest in NESTED]
    for place in places:
        if (place / wanted / "metadata").is_dir():
            return place / wanted
    if root.name == wanted and (root / "metadata").is_dir():
        return root
    found = sorted({p.name for place in places for name in ("pathfinder*", "curv_*") for p in place.glob(name)})
    raise DataError(
        f"task.path: {root} holds no {wanted} (contour_length {contour_length}), nor does a {size} folder in it; "
        f"found: {', '.join(found) or 'no Pathfinder folder'}"
    )


def metadata_files(folder: Path) -> list[Path]:
    files = list((folder / "metadata").glob("*.npy"))
    for file in files:
        if not file.stem.isdecimal():
            raise DataError(f"{file}: the name is not a number")
    if not files:
        raise DataError(f"{folder / 'metadata'}: no .npy file")
    return sorted(files, key=lambda file: int(file.stem))


def lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not the plain text of the release") from error


def rows(folder: Path, contour_length: int) -> list[Row]:
    """All lines of all metadata, in the order of their numbers."""
    out = []
    for file in metadata_files(folder):
        for number, line in enumerate(lines(file), start=1):
            where, fields = f"{file}:{number}", line.split()
            if len(fields) < 4:
                raise DataError(f"{where}: {len(fields)} columns, at least 4 (folder, file, index, label) needed")
            if fields[3] not in ("0", "1"):
                raise DataError(f"{where}: label {fields[3]!r} is not 0 or 1")
            if len(fields) > 5 and fields[5] != str(contour_length):
                raise DataError(f"{where}: contour length {fields[5]}, but task.contour_length is {contour_length}")
            out.append(Row(where, folder / fields[0] / fields[1], int(fields[3])))
    if not out:
        raise DataError(f"{folder / 'metadata'}: no line in any file")
    return out


def count(folder: Path) -> int:
    """Lines of metadata, empty images included."""
    return sum(len(lines(file)) for file in metadata_files(folder))


def state(folder: Path) -> str:
    """Digest that changes when images are added or removed or their labels change."""
    whole = hashlib.sha256(str(folder.resolve()).encode())
    for file in metadata_files(folder):
        whole.update("\n".join(lines(file)).encode())
    changed = [p.stat().st_mtime_ns for p in sorted((folder / "imgs").glob("*"))]
    return digest([whole.hexdigest(), changed])


def without_empty(listed: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows whose image has bytes, and the paths of the others: one image of the real
    `pathfinder32/curv_baseline` is an empty file."""
    kept, empty = [], []
    for row in listed:
        try:
            (kept if row.image.stat().st_size else empty).append(row)
        except OSError as error:
            raise DataError(f"{row.where}: {row.image} cannot be read ({error.strerror})") from error
    for row in empty:
        log.warning("%s is empty and skipped", row.image)
    return kept, [str(row.image) for row in empty]


def decode(row: Row, resolution: int) -> np.ndarray:
    """(R, R) uint8."""
    from PIL import Image

    try:
        with Image.open(row.image) as image:
            size, mode = image.size, image.mode
            pixels = np.asarray(image) if size == (resolution, resolution) and mode == "L" else None
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{row.image} cannot be read ({reason})") from error
    if pixels is None:
        what = f"{size[0]}x{size[1]} pixels of mode {mode}"
        raise DataError(f"{row.image} has {what}; task.resolution {resolution} needs 8-bit grey, as wide and high")
    return pixels


def images(listed: list[Row], resolution: int, block: int = 1000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (n, R^2) uint8 images and (n,) uint8 labels."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(listed), block):
            part = listed[start : start + block]
            pixels = np.stack(list(pool.map(lambda row: decode(row, resolution), part)))
            yield pixels.reshape(len(part), -1), np.array([row.label for row in part], np.uint8)
