"""What is known to go wrong with a copy of the release, looked for in the copy at hand."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lra.data.release import FOLDER, PARTS
from lra.errors import UserError
from lra.tasks import files, png
from lra.tasks.base import DataError

LISTOPS = {"basic_train.tsv": 96_000, "basic_val.tsv": 2_000, "basic_test.tsv": 2_000}
PAIRS = {"new_aan_pairs.train.tsv": 147_086, "new_aan_pairs.eval.tsv": 18_090, "new_aan_pairs.test.tsv": 17_437}
IMAGES = 200_000  # of each difficulty and resolution
KNOWN_EMPTY = "pathfinder32/curv_baseline/imgs/0/sample_172.png"
PROBED = 600  # images whose labels are held against what they show
ENOUGH = 100
GAPS = (0, 1, 1.5, 2, 2.3, 2.9, 3.2, 3.7, 4.2, 5, 6, 8, 12, 20, 181)  # distances on the grid, in pixels
UNRELATED = 0.6  # area under the curve below which labels do not follow from images; true labels give 0.73


class Finding(NamedTuple):
    """level: ok, note (known, harmless or merely other than the release) or bad."""

    level: str
    where: Path
    text: str


def check(path: Path) -> Iterator[Finding]:
    """Findings about every part of the release at or below `path`. Raises UserError if there is none."""
    found = places(path)
    if not found:
        raise UserError(f"{path} holds none of {', '.join(PARTS)}, nor does a {FOLDER} folder in it")
    for name in PARTS:
        # The deepest comes last.
        folders = [folder for part, folder in found if part == name]
        for folder in folders[:-1]:
            text = f"stands beside {folders[-1]}, which is the one to use"
            yield Finding("note", folder, f"{text}; loaders here take that one (doubled folder of the archive)")
        for folder in folders:
            yield from CHECKS[re.sub(r"\d+$", "", name)](folder)


def places(path: Path) -> list[tuple[str, Path]]:
    """(part, folder) of all parts, outer folders before inner ones."""
    if path.name in PARTS and path.is_dir():
        return [(path.name, path)]
    roots = [path, path / FOLDER, path / FOLDER / FOLDER]
    return [(name, root / name) for root in roots for name in PARTS if (root / name).is_dir()]


def listops(folder: Path) -> Iterator[Finding]:
    for name, released in LISTOPS.items():
        file = folder / name
        yield from table(file, released, columns=2, header=b"Source\tTarget", last=rb"[0-9]")


def pairs(folder: Path) -> Iterator[Finding]:
    for name, released in PAIRS.items():
        yield from table(folder / name, released, columns=5, first=rb"[01](\.0)?")


def table(
    file: Path,
    released: int,
    columns: int,
    header: bytes | None = None,
    first: bytes | None = None,
    last: bytes | None = None,
) -> Iterator[Finding]:
    """A TSV: every row has its columns, the first and the last match, and there are as many as released."""
    rows = 0
    try:
        with files.opened(file) as handle:
            for number, line in enumerate(iter(lambda: handle.readline(files.LONGEST_ROW + 1), b""), start=1):
                if len(line) > files.LONGEST_ROW or line.count(b"\t") >= 2 * columns:
                    yield Finding("bad", file, f"line {number} is longer or of more columns than any row of this file")
                    return
                cells = line.rstrip(b"\r\n").split(b"\t")
                if number == 1 and header is not None:
                    if line.rstrip(b"\r\n") != header:
                        yield Finding("bad", file, f"line 1 is not the header {header.decode()!r}")
                        return
                    continue
                rows += 1
                sound = (
                    len(cells) == columns
                    and (first is None or re.fullmatch(first, cells[0]))
                    and (last is None or re.fullmatch(last, cells[-1]))
                )
                if not sound:
                    yield Finding("bad", file, f"line {number} is cut short or no row of this file")
                    return
    except OSError as error:
        yield Finding("bad", file, f"cannot be read ({error.strerror})")
        return
    if rows == released:
        yield Finding("ok", file, f"{rows:,} rows, as released")
    else:
        yield Finding("note" if rows else "bad", file, f"{rows:,} rows; the release has {released:,}")


def pathfinder(folder: Path) -> Iterator[Finding]:
    subsets = sorted(p for p in folder.glob("curv_*") if p.is_dir())
    if not subsets:
        yield Finding("bad", folder, "holds no curv_* folder")
    for subset in subsets:
        yield from images(subset)


def images(subset: Path) -> Iterator[Finding]:
    """One difficulty: every image listed is there and has bytes, and shows what its label says."""
    try:
        rows = [line.split() for file in sorted((subset / "metadata").glob("*.npy")) for _, line in files.lines(file)]
        sizes = {
            f"{batch.name}/{entry.name}": entry.stat().st_size
            for batch in (subset / "imgs").iterdir()
            if batch.is_dir()
            for entry in os.scandir(batch)
        }
    except (OSError, DataError) as error:
        yield Finding("bad", subset, f"metadata or images cannot be read ({error})")
        return
    if not rows or any(len(r) < 4 or r[3] not in ("0", "1") for r in rows):
        yield Finding("bad", subset, "metadata hold no rows, or rows without a label 0 or 1 in the fourth column")
        return
    listed = {f"{Path(r[0]).name}/{r[1]}": int(r[3]) for r in rows}
    missing = [name for name in listed if name not in sizes]
    empty = [name for name in listed if sizes.get(name) == 0]
    if missing:
        yield Finding("bad", subset, f"{len(missing):,} of {len(listed):,} images listed are not there: {missing[0]}")
    for name in empty:
        file = subset / "imgs" / name
        known = file.as_posix().endswith(KNOWN_EMPTY)
        text = "is empty, in every copy of the release" if known else "is empty"
        yield Finding("note" if known else "bad", file, f"{text}; loaders here skip it and say so")
    share = sum(listed.values()) / len(listed)
    count = f"{len(listed):,} images, {share:.1%} connected"
    yield Finding("ok" if len(listed) == IMAGES else "note", subset, f"{count}; the release has {IMAGES:,}")
    if subset.parent.name == "pathfinder128":
        whole = [name for name in listed if sizes.get(name)]
        yield from learnable(subset, [(subset / "imgs" / name, listed[name]) for name in whole])


def learnable(subset: Path, labelled: list[tuple[Path, int]]) -> Iterator[Finding]:
    """Whether labels follow from images: the archive's second pathfinder128 is one whose labels do
    not (issue 38 of google-research/long-range-arena), and no network can tell by its loss."""
    from sklearn.metrics import roc_auc_score

    chosen = np.random.default_rng(0).permutation(len(labelled))[:PROBED]
    labels = np.array([labelled[i][1] for i in chosen])
    if len(chosen) < ENOUGH or labels.min() == labels.max():
        yield Finding("note", subset, f"{len(chosen)} images are too few to hold labels against images")
        return
    try:
        area = roc_auc_score(labels, [-widest_gap(labelled[i][0]) for i in chosen])
    except (OSError, ValueError) as error:
        yield Finding("bad", subset, f"images cannot be read ({error})")
        return
    if area < UNRELATED:
        text = "labels do not follow from the images and cannot be learnt; take the inner folder of the archive"
        yield Finding("bad", subset, f"{text} (gap between the discs against label: AUC {area:.2f}, true labels 0.73)")
    else:
        yield Finding("ok", subset, f"labels follow from the images (gap between the discs: AUC {area:.2f})")


def widest_gap(file: Path, bright: int = 64, radius: float = 3.0) -> float:
    """How far apart the paddles are that lead from one disc to the other, at the widest place of the
    best way, in pixels: small where one curve joins the discs. For images of 128 x 128."""
    from scipy import ndimage

    pixels = png.pixels(files.whole(file, png.LARGEST), 128, "L")
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    filled = ndimage.convolve(pixels.astype(float), (y * y + x * x <= radius * radius).astype(float), mode="constant")
    one = np.unravel_index(filled.argmax(), filled.shape)
    y, x = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    elsewhere = (y - one[0]) ** 2 + (x - one[1]) ** 2 > (4 * radius) ** 2
    other = np.unravel_index(np.where(elsewhere, filled, -1).argmax(), filled.shape)
    away = ndimage.distance_transform_edt(pixels < bright)

    def joined(gap: float) -> bool:
        regions, _ = ndimage.label(away <= gap, np.ones((3, 3)))
        return bool(regions[one]) and regions[one] == regions[other]

    return GAPS[bisect_left(GAPS, True, key=joined)]


CHECKS = {"listops-": listops, "tsv_data": pairs, "pathfinder": pathfinder}
