"""Pathfinder and Path-X: do two discs lie on one dashed curve? (Linsley et al. 2018; LRA 2.2.5)

Generated here from a seed, or read from the official release's PNGs.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from lra.tasks import store
from lra.tasks.base import SPLITS, Answers, DataError, Example, Ragged, Split, Subset, Task, digest, majority
from lra.tasks.pathfinder import release
from lra.tasks.pathfinder.aux import check, matching_loss, noted, placed, random_places
from lra.tasks.pathfinder.parameters import RESOLUTIONS as DRAWN
from lra.tasks.pathfinder.parameters import SHORT_CONTOURS, Parameters, parameters
from lra.tasks.sampling import check_classes, under_two_labels

RESOLUTIONS = {"pathfinder": 32, "pathx": 128, "pathx256": 256}  # the exam's own, by name
INDEX = 1  # of what a store of the release holds; raise it when that changes
FACTS = {"bounds": [int], "content": str}
ODDITIES = {"skipped": [str], "unlisted": int, "repeated": int, "both": int}
SHARD = 500  # images drawn from one seed; part of what the seed means


class Pathfinder(Task):
    """The official exam: 200,000 images, row by row, of contour length 14 ("hard").

    Token i + 1 stands for intensity i: black pixels are data, and no image has padding.

    path: the release (`lra_release` or the doubled folder in it), a `pathfinder{R}` folder or a
    difficulty's; None generates. num_images: how many are generated, or used of the release, with
    the same shares of its splits. aux "discs" asks for the places of the discs besides, at `aux_weight`
    (`lra.tasks.pathfinder.aux`); what is scored is the label alone. That, `seed`, `workers` (threads;
    None: all cores) and `changes` (to the generator's parameters) concern generated images only;
    `workers` never changes one. 16x16 pixels, with contours of 2 to 4 paddles and no distractors,
    are ours, for budgets of minutes.

    The split is 80/10/10 by rank of each image's hash, and examples stand in that order: it
    depends on the set of images alone, and equal images fall into one split.
    """

    vocab_size = 257
    num_classes = 2
    symbols = tuple(str(intensity) for intensity in range(256))
    local_rules = ("majority", "linear")  # the CNN sees the grid, and from near to far all of it

    def __init__(
        self,
        name: str = "pathfinder",
        resolution: int = 32,
        contour_length: int = 14,
        max_len: int | None = None,
        path: str | None = None,
        num_images: int = release.WHOLE,
        seed: int = 0,
        workers: int | None = None,
        changes: Mapping[str, Any] | None = None,
        aux: str | None = None,
        aux_weight: float = 1.0,
        **common: Any,
    ) -> None:
        if resolution not in DRAWN:
            raise DataError(f"task.resolution: {resolution!r} is not one of {', '.join(map(str, DRAWN))}")
        if contour_length not in (allowed := SHORT_CONTOURS.get(resolution, tuple(release.DIFFICULTIES))):
            raise DataError(
                f"task.contour_length: {contour_length!r} is not one of {', '.join(map(str, allowed))}, "
                f"the lengths at task.resolution={resolution}"
            )
        if path is not None and resolution in SHORT_CONTOURS:
            raise DataError(
                f"task.path: the release has no images of {resolution}x{resolution}; take "
                f"task.resolution=32 task.contour_length=14 (or another of its folders), or leave the path out"
            )
        check(aux, aux_weight, path)
        self.aux, self.aux_weight = aux, aux_weight
        self.standard_len, self.grid = resolution * resolution, (resolution, resolution)
        max_len = self.standard_len if max_len is None else max_len
        super().__init__(name, max_len, **common)
        if max_len != self.standard_len:
            raise DataError(
                f"task.max_len: {max_len} is not {self.standard_len}, the pixels of {resolution}x{resolution}"
            )
        for field, value, low in (("num_images", num_images, 10), ("seed", seed, 0), ("workers", workers, 1)):
            if value is not None and (not isinstance(value, int) or value < low):
                raise DataError(f"task.{field}: {value!r} is not a whole number of at least {low}")
        self.resolution, self.contour_length, self.path = resolution, contour_length, path
        self.num_images, self.seed, self.workers, self.changes = num_images, seed, workers, dict(changes or {})

    @property
    def row(self) -> str:
        """Name for tables, with what departs from the exam: resolution, contour length, images."""
        images = min(self.num_images, release.count(self.find())) if self.path else self.num_images
        parts = (
            (f"{self.resolution}px", self.resolution != RESOLUTIONS.get(self.name)),
            (f"contour{self.contour_length}", self.contour_length != 14),
            (f"{images}images", images != release.WHOLE),
            (str(self.aux), self.aux is not None),
            *((f"{key}={value}", True) for key, value in self.changes.items()),
        )
        return "-".join([self.name, *(part for part, departs in parts if departs)])

    @cached_property
    def parameters(self) -> Parameters:
        try:
            return parameters(self.resolution, self.contour_length, **self.changes)
        except TypeError as error:
            raise DataError(f"task.changes: {error}") from error

    @cached_property
    def generated(self) -> dict[str, Any]:
        """What generated images depend on."""
        from lra.tasks.pathfinder.generator import VERSION
        from lra.tasks.pathfinder.sprites import fingerprint

        return {
            "generator": VERSION,
            "parameters": asdict(self.parameters),
            "sprites": fingerprint(self.parameters),
            "images": self.num_images,
            "seed": self.seed,
        }

    def identity(self) -> Any:
        if self.path is None:
            return self.generated
        images = {split: len(self.split(split)) for split in SPLITS}
        return {"content": store.facts(self.folder(), FACTS)["content"], "images": images}

    def notes(self) -> dict[str, Any]:
        """Of the release: images that are empty and skipped, that no line of the metadata names, that several
        do, and that stand under both labels, pixel for pixel."""
        self.split("train")
        if self.path is None:
            return {"source": "generated here"}
        facts = store.facts(self.folder(), FACTS | ODDITIES)
        return {
            "source": "release files",
            "images_skipped": len(facts["skipped"]),
            "images_unlisted": facts["unlisted"],
            "images_listed_again": facts["repeated"],
            "images_under_both_labels": facts["both"],
        }

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`."""
        where = self.folder() if self.path is None else self.find()
        return {
            "source": "generated here" if self.path is None else "release files",
            "found": where if where.exists() else None,
            "licence": "MIT (generator)",
            "how": f"python -m lra.data prepare task={self.name}",
        }

    def find(self) -> Path:
        return release.find(str(self.path), self.resolution, self.contour_length)

    @cached_property
    def state(self) -> str:
        return digest([INDEX, release.state(self.find())])

    def folder(self) -> Path:
        """The store of the images in order of their hashes."""
        what = digest(self.generated) if self.path is None else f"release-{self.state}"
        return store.data_dir(self.data_dir) / f"pathfinder{self.resolution}-{self.contour_length}-{what}"

    def load(self) -> Mapping[str, Split]:
        folder = self.folder()
        shards = folder.with_name(f"{folder.name}.shards")
        store.ensure(folder, (lambda draft: self.generate(draft, shards)) if self.path is None else self.index)
        shutil.rmtree(shards, ignore_errors=True)
        images, labels, order = (np.asarray(store.array(folder, n)) for n in ("images", "labels", "order"))
        everything = Ragged(
            images.reshape(-1), np.arange(len(labels) + 1) * images.shape[1], labels, self.max_len, shift=1
        )
        bounds = [0, *store.facts(folder, FACTS)["bounds"], len(labels)]
        share = min(1.0, self.num_images / len(labels))
        return {
            name: Subset(everything, order[a : a + round((b - a) * share)])
            for name, a, b in zip(SPLITS, bounds[:-1], bounds[1:], strict=True)
        }

    def index(self, draft: Path) -> dict[str, Any]:
        """Build the store from the release."""
        listed = release.rows(self.find(), self.contour_length)
        kept, skipped = release.without_empty(listed)
        check_classes([row.label for row in kept], str(self.find()))
        blocks = release.images(kept, self.resolution)
        facts = write(draft, progress(blocks, len(kept), self.name), len(kept), self.max_len)
        return facts | {"skipped": skipped} | release.oddities(self.find(), listed)

    def generate(self, draft: Path, shards: Path) -> dict[str, Any]:
        """Build the store by drawing the shards that are not yet in the folder `shards`."""
        pixels = self.num_images * self.max_len
        shards.mkdir(exist_ok=True)
        if shutil.disk_usage(shards).free < pixels:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        files = draw_shards(self.parameters, self.seed, self.num_images, shards, self.workers, self.name)
        return write(draft, map(read_shard, files), self.num_images, self.max_len)

    def collate(self, examples: Sequence[Example]) -> Any:
        batch = super().collate(examples)
        return batch if self.aux is None else placed(batch, self.resolution, self.parameters.marker_radius)

    def loss(self, output: Tensor, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        label = super().loss(output[:, : self.num_classes], batch, label_smoothing)
        if self.aux is None:
            return label
        return label + self.aux_weight * matching_loss(output, batch.places, self.num_classes)

    def scores(self, output: Tensor, batch: Any) -> Answers:
        return super().scores(output[:, : self.num_classes], batch)

    def noted(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        return {} if self.aux is None else noted(output, batch.places, self.num_classes, self.resolution)

    def synthetic(self, size: int, device: torch.device | None = None) -> Any:
        batch = super().synthetic(size, device)
        return batch if self.aux is None else random_places(batch)

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.pathfinder.discs import disc_places

        return {"majority": majority, "disc_places": disc_places(self.parameters.marker_radius)}

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.floors.learned import linear, small_cnn

        return {"linear": linear, "small_cnn": small_cnn}


def progress(blocks: Iterable[tuple[np.ndarray, np.ndarray]], total: int, name: str) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="image", disable=None) as bar:
        for block in blocks:
            yield block
            bar.update(len(block[1]))


def draw_shards(p: Parameters, seed: int, num_images: int, folder: Path, workers: int | None, name: str) -> list[Path]:
    """Files of all shards, of which those missing are drawn.

    A shard depends on the parameters, the seed and its number only. Threads, not processes: the
    compiled generator runs outside the interpreter's lock, and nothing outlives a kill.
    """
    from tqdm import tqdm

    from lra.tasks.pathfinder.generator import Images, draw_many, prepare
    from lra.tasks.stream import seeded

    tables = prepare(p)
    files = [folder / f"{i:05d}.npz" for i in range(-(-num_images // SHARD))]

    def draw(shard: int, count: int) -> Images:
        out = Images.empty(count, p.resolution)
        draw_many(*tables, seeded(seed, shard), *out)
        return out

    def make(shard: int) -> int:
        count = min(SHARD, num_images - shard * SHARD)
        out = draw(shard, count)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=out.images, labels=out.labels)
        write_whole(files[shard], buffer.getbuffer())
        return count

    missing = [i for i, file in enumerate(files) if not file.exists()]
    draw(0, 0)  # compile once, before the threads start
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    done = num_images - sum(min(SHARD, num_images - i * SHARD) for i in missing)
    try:
        with tqdm(total=num_images, initial=done, desc=name, unit="image", disable=None) as bar:
            for future in as_completed([pool.submit(make, i) for i in missing]):
                bar.update(future.result())
    finally:
        pool.shutdown(cancel_futures=True)
    return files


def write_whole(file: Path, data: Any) -> None:
    """Write a file that is whole or absent, whenever the process is killed."""
    draft = file.with_suffix(".draft")
    with draft.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)
    store.fsync_dir(file.parent)


def read_shard(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as shard:
            return shard["images"], shard["labels"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{file} cannot be read ({error}); delete it to draw it again") from error


def write(draft: Path, blocks: Iterable[tuple[np.ndarray, np.ndarray]], count: int, length: int) -> dict[str, Any]:
    """Write images.npy (N, L) uint8, labels.npy (N,) uint8 and order.npy (N,), the images by hash.

    Returns facts: `bounds`, where valid and test begin in that order, `content`, a digest of the
    set of images and labels, and `both`, how many images stand under two labels. Written block by
    block, not through a memory map, for which a full disk would be the end of the process.
    """
    labels, hashes = [], []
    with (draft / "images.npy").open("wb") as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, length)}
        np.lib.format.write_array_header_1_0(handle, header)
        for images, part in blocks:
            handle.write(images.tobytes())
            labels.append(part)
            hashes += [hashlib.blake2b(image, digest_size=16).digest() for image in images]
    every = np.concatenate(labels)
    keys = np.frombuffer(b"".join(hashes), ">u8").reshape(-1, 2)
    order = np.lexsort((every, keys[:, 1], keys[:, 0]))
    np.save(draft / "labels.npy", every)
    np.save(draft / "order.npy", order.astype(np.uint32))
    content = hashlib.sha256(keys[order].tobytes() + every[order].tobytes()).hexdigest()[:16]
    return {
        "bounds": [bound(keys[order], share) for share in (8, 9)],
        "content": content,
        "both": under_two_labels(keys[:, 0], every),
    }


def bound(keys: np.ndarray, tenths: int) -> int:
    """First rank past the share at which a new image begins, so that equal images stay together."""
    at = len(keys) * tenths // 10
    while 0 < at < len(keys) and (keys[at] == keys[at - 1]).all():
        at += 1
    return at
