"""The release's layout of Pathfinder:
`pathfinder{R}/{difficulty}/{imgs/<k>/sample_<i>.png, metadata/<k>.npy}`.

Metadata are plain text whatever their name, a line an image: folder, file, index, label,
continuity, contour length, and on. (spec 1.7)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lra.tasks import files, png, store
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
    root, wanted = store.path(path), DIFFICULTIES[contour_length]
    if not root.is_dir():
        raise DataError(f"task.path: {root} is not a folder")
    size = f"pathfinder{resolution}"
    empty: Path | None = None
    places = [root / nest / size for nest in NESTED] + [root / nest for nest in NESTED]
    for folder in [*(place / wanted for place in places), *([root] if root.name == wanted else [])]:
        if (folder / "metadata").is_dir():
            return folder
        if folder.is_dir():
            empty = empty or folder
    if empty:
        raise DataError(f"task.path: {empty} holds no metadata folder, which says what its images show")
    found = sorted({p.name for place in places for name in ("pathfinder*", "curv_*") for p in place.glob(name)})
    raise DataError(
        f"task.path: {root} holds no {wanted} (contour_length {contour_length}), nor does a {size} folder in it; "
        f"found: {', '.join(found) or 'no Pathfinder folder'}"
    )


def metadata_files(folder: Path) -> list[Path]:
    """In the order of their numbers. DataError for a folder of images that has none, and the other way round."""
    try:
        found = {file.stem: file for file in (folder / "metadata").glob("*.npy")}
        batches = {each.name for each in os.scandir(folder / "imgs") if each.is_dir() and each.name.isdecimal()}
    except OSError as error:
        raise DataError(f"task.path: {error.filename or folder} cannot be read ({error.strerror})") from error
    for name, file in found.items():
        if not (name.isascii() and name.isdecimal()):
            raise DataError(f"{file}: the name is not a number")
    if not found:
        raise DataError(f"{folder / 'metadata'}: no .npy file")
    if unlisted := sorted(batches - found.keys(), key=int):
        raise DataError(
            f"{folder / 'metadata'}: no {unlisted[0]}.npy, though there are images in {folder / 'imgs' / unlisted[0]}"
            + (f" ({len(unlisted)} such folders)" if len(unlisted) > 1 else "")
        )
    return sorted(found.values(), key=lambda file: int(file.stem))


def rows(folder: Path, contour_length: int) -> list[Row]:
    """All lines of all metadata, in the order of their numbers."""
    out: list[Row] = []
    seen: dict[Path, Row] = {}
    for file in metadata_files(folder):
        columns = None
        for number, line in files.lines(file):
            where, fields = f"{file}:{number}", line.split()
            if len(fields) < 4:
                raise DataError(f"{where}: {len(fields)} columns, at least 4 (folder, file, index, label) needed")
            columns = columns or len(fields)
            if len(fields) != columns:
                raise DataError(f"{where}: {len(fields)} columns, {columns} in the lines before: it may be cut short")
            if fields[3] not in ("0", "1"):
                raise DataError(f"{where}: label {files.shown(fields[3])} is not 0 or 1")
            if len(fields) > 5 and fields[5] != str(contour_length):
                length = files.shown(fields[5]).strip("'")
                raise DataError(f"{where}: contour length {length}, but task.contour_length is {contour_length}")
            if ".." in Path(fields[0]).parts or Path(fields[0]).is_absolute() or "/" in fields[1]:
                raise DataError(f"{where}: {files.shown(fields[0] + '/' + fields[1])} lies outside {folder}")
            row = Row(where, folder / fields[0] / fields[1], int(fields[3]))
            if (first := seen.setdefault(row.image, row)).label != row.label:
                raise DataError(f"{where}: label {row.label} for {row.image}, which {first.where} gives {first.label}")
            out.append(row)
    if not out:
        raise DataError(f"{folder / 'metadata'}: no line in any file")
    return out


def count(folder: Path) -> int:
    """Lines of metadata, empty images included."""
    return sum(1 for file in metadata_files(folder) for _ in files.lines(file))


def oddities(folder: Path, listed: list[Row]) -> dict[str, int]:
    """How many PNGs no line of the metadata names, and how many lines name one that an earlier line does."""
    named = {row.image for row in listed}
    return {
        "unlisted": sum(file not in named for file in (folder / "imgs").glob("*/*.png")),
        "repeated": len(listed) - len(named),
    }


def state(folder: Path) -> str:
    """Digest that changes whenever an image or a line of metadata may have: by names, sizes and times, of which
    the time of a file's last change of any kind (ctime) cannot be set back. No image is read."""
    known = []
    try:
        for file in metadata_files(folder):
            known.append(stamp(file.name, file.stat()))
        for batch in sorted((folder / "imgs").glob("*")):
            if batch.is_dir():
                with os.scandir(batch) as entries:
                    known += sorted(stamp(f"{batch.name}/{e.name}", e.stat()) for e in entries)
    except OSError as error:
        raise DataError(f"task.path: {error.filename or folder} cannot be read ({error.strerror})") from error
    return digest([str(folder.resolve()), known])


def stamp(name: str, found: os.stat_result) -> tuple[str, int, int, int]:
    return name, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def without_empty(listed: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows whose image has bytes, and the paths of the others: one image of the real
    `pathfinder32/curv_baseline` is an empty file."""
    kept, empty = [], []
    for row in listed:
        try:
            (kept if row.image.stat().st_size or not row.image.is_file() else empty).append(row)
        except OSError as error:
            raise DataError(f"{row.where}: {row.image} cannot be read ({error.strerror})") from error
    if not kept:
        raise DataError(f"{listed[0].image}: empty, as are all {len(listed)} images listed")
    for row in empty:
        log.warning("%s is empty and skipped", row.image)
    return kept, [str(row.image) for row in empty]


def decode(row: Row, resolution: int) -> np.ndarray:
    """(R, R) uint8."""
    try:
        encoded = files.whole(row.image, png.LARGEST)
    except OSError as error:
        raise DataError(f"{row.image} cannot be read ({error.strerror or error})") from error
    try:
        header = png.header(encoded)
        if header == (resolution, resolution, 8, png.GREY):
            return png.pixels(encoded, resolution, "L")
    except ValueError as error:
        raise DataError(f"{row.image} cannot be read ({error})") from error
    raise DataError(f"{row.image} has {header}; task.resolution {resolution} needs 8-bit grey, as wide and high")


def images(listed: list[Row], resolution: int, block: int = 1000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (n, R^2) uint8 images and (n,) uint8 labels."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(listed), block):
            part = listed[start : start + block]
            pixels = np.stack(list(pool.map(lambda row: decode(row, resolution), part)))
            yield pixels.reshape(len(part), -1), np.array([row.label for row in part], np.uint8)
