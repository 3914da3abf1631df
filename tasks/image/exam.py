"""Image: the class, 0 to 9, of a grey CIFAR-10 picture read pixel by pixel (Krizhevsky 2009; LRA 2.2.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lra.tasks import hub, parquet, png, store
from lra.tasks.base import BYTE_VOCABULARY, DataError, Ragged, Split, Task, digest
from lra.tasks.image.cifar_batches import read_batches
from lra.tasks.sampling import check_classes, check_count, content_keys, few, under_two_labels

if TYPE_CHECKING:
    import pyarrow as pa


HUB = "uoft-cs/cifar10"
ROWS = {"train": 50_000, "test": 10_000}
SIDE = 32
PIXELS = SIDE * SIDE
BATCHES = "cifar-10-batches-py"
VERSION = 1  # of what a store holds; raise it when `grey` changes
JPEG = b"\xff\xd8\xff"


class Pictures(NamedTuple):
    """What a source holds: encoded files, or RGB arrays uint8 (32, 32, 3); labels (N,)."""

    images: list[bytes] | np.ndarray
    labels: np.ndarray
    where: str


class Image(Task):
    """CIFAR-10 in grey, row by row: token = intensity + 1, in 1..256; 0 pads and is never a pixel.

    No normalisation, no augmentation. Train is the first 90 % (45,000) of the train batches in their
    order, valid the last 10 % (5,000), test the test batch: the official split (spec 1.6). The
    official code feeds 0..255 and takes black pixels for padding (spec 0.2); here they are seen.

    Sources, in this order: `path` (a folder with the hub's parquet files or cifar-10-batches-py),
    the hub's `hub`, a cifar-10-batches-py in the data folder. They are decoded once, into a store
    in the data folder that is named after their content.

    eval_items: valid and test are cut to that many, stratified and seeded; shows in `row`, as do
    other counts than 50,000 + 10,000. JPEG pixels are not CIFAR-10's: then `row` says `image_jpeg`.
    """

    vocab_size = BYTE_VOCABULARY
    num_classes = 10
    standard_len = PIXELS
    grid = (SIDE, SIDE)
    symbols = tuple(str(i) for i in range(256))
    local_rules = ("majority", "linear")  # the CNN sees the grid, and from near to far all of it

    def __init__(
        self,
        name: str = "image",
        max_len: int = PIXELS,
        path: str | None = None,
        hub: str = HUB,
        split_seed: int = 0,
        eval_items: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if max_len > PIXELS:
            raise DataError(f"task.max_len: {max_len} is above the {PIXELS} pixels of an image")
        check_count("task.eval_items", eval_items)
        self.path, self.hub, self.split_seed, self.eval_items = path, hub, split_seed, eval_items
        self._rows = dict(ROWS)
        self._jpeg: bool | None = None
        self._identity: dict[str, Any] = {}
        self._notes: dict[str, Any] = {}

    @property
    def row(self) -> str:
        """The name and what departs from the exam; what the data alone tell shows once they are read."""
        departures = [self.name]
        if self._jpeg is not None:
            departures = [self.name.removesuffix("_jpeg") + "_jpeg" * self._jpeg]
        if self.max_len != self.standard_len:
            departures.append(str(self.max_len))
        if self._rows != ROWS:
            departures.append(f"{self._rows['train']}+{self._rows['test']}rows")
        if self.eval_items is not None and self.eval_items < self._rows["test"]:
            departures.append(f"test{self.eval_items}")
        return "-".join(departures)

    def load(self) -> Mapping[str, Split]:
        pictures, source = self._read()
        folder = store.data_dir(self.data_dir) / f"image-{digest([VERSION, source_digest(pictures)])}"
        store.ensure(folder, lambda draft: write(draft, pictures))
        facts = store.facts(folder, {"contents": str, "jpeg": int})
        pixels = {name: store.array(folder, f"{name}_pixels") for name in ROWS}
        labels = {name: np.asarray(store.array(folder, f"{name}_labels")) for name in ROWS}
        self._rows = {name: len(labels[name]) for name in ROWS}
        self._jpeg = facts["jpeg"] > 0

        def part(name: str, start: int, stop: int | None) -> Ragged:
            flat, classes = pixels[name][start:stop].reshape(-1), labels[name][start:stop]
            return Ragged(flat, np.arange(len(classes) + 1) * PIXELS, classes, self.max_len, shift=1)

        cut = len(labels["train"]) * 9 // 10
        if not 0 < cut < len(labels["train"]):
            raise DataError(f"{pictures['train'].where}: {len(labels['train'])} images are too few to split off 10 %")
        check_classes(labels["train"][:cut], pictures["train"].where)
        keys = {name: content_keys(pixels[name], self.split_seed) for name in ROWS}
        exam = few(part("test", 0, None), keys["test"], self.eval_items)
        self._identity = {
            "contents": facts["contents"],
            "split_seed": self.split_seed,
            "eval_items": self.eval_items,
        }
        self._notes = {
            "source": source,
            "jpeg_images": facts["jpeg"],
            "train_images_under_two_labels": under_two_labels(keys["train"], labels["train"]),
            "train_images_also_in_test": int(np.isin(keys["train"], keys["test"]).sum()),
            "test_items": len(exam),
        }
        return {
            "train": part("train", 0, cut),
            "valid": few(part("train", cut, None), keys["train"][cut:], self.eval_items),
            "test": exam,
        }

    def identity(self) -> Any:
        """Grey pixels and labels in their order: the same whatever the source."""
        self.split("train")
        return self._identity

    def notes(self) -> dict[str, Any]:
        """source; how many images are JPEG; images of train that test holds too, in grey."""
        self.split("train")
        return dict(self._notes)

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`. Reads no data."""
        unpacked = store.data_dir(self.data_dir) / BATCHES
        found = store.path(self.path) if self.path is not None else hub.cached(self.hub) or unpacked
        return {
            "source": f"hub: {self.hub}" if self.path is None else "local files",
            "found": found if found.exists() else None,
            "licence": "none stated; cite Krizhevsky 2009",
            "how": f"python -m lra.data prepare task={self.name} fetches 144 MB, {hub.INSTEAD}",
        }

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.floors.learned import linear, small_cnn

        return {"linear": linear, "small_cnn": small_cnn}

    def _read(self) -> tuple[dict[str, Pictures], str]:
        unpacked = store.data_dir(self.data_dir) / BATCHES
        if self.path is not None:
            return read_folder(store.path(self.path)), "local files"
        try:
            tables = hub.fetch(self.hub)
        except hub.Unreachable:
            # Another data set than the exam's own is not what lies there.
            if self.hub != HUB or not unpacked.is_dir():
                raise
            return from_batches(unpacked), "local files"
        return from_tables(tables, self.hub), f"hub: {self.hub}"


def grey(rgb: np.ndarray) -> np.ndarray:
    """uint8 (..., 3) -> uint8 (...): what TensorFlow's rgb_to_grayscale makes of 8-bit images.

    Colours are scaled to [0, 1] in float32, weighted 0.2989, 0.5870, 0.1140, summed from red to
    blue, scaled by 255.5 and truncated: neither rounding nor truncating of 0..255. Every one of
    the 2^24 colours was compared with TensorFlow 2.21, eagerly and inside tf.data: no difference.
    """
    scaled = rgb.astype(np.float32) * np.float32(1 / 255)
    red, green, blue = (scaled[..., i] * np.float32(w) for i, w in enumerate((0.2989, 0.5870, 0.1140)))
    return ((red + green + blue) * np.float32(255.5)).astype(np.uint8)


def read_folder(folder: Path) -> dict[str, Pictures]:
    """Pictures of a folder of either layout. Raises DataError."""
    for root in (folder, folder / BATCHES):
        if (root / "data_batch_1").exists() or (root / "test_batch").exists():
            return from_batches(root)
    if not folder.is_dir():
        raise DataError(f"task.path: {folder} is not a folder")
    if not any(folder.rglob("*.parquet")):
        raise DataError(f"task.path: {folder} holds neither train*.parquet and test*.parquet nor data_batch_1")
    return from_tables(parquet.read(folder), str(folder))


def from_batches(folder: Path) -> dict[str, Pictures]:
    return {name: Pictures(*read_batches(folder, name), f"{folder}, {name}") for name in ROWS}


def from_tables(tables: Mapping[str, pa.Table], where: str) -> dict[str, Pictures]:
    """Columns `img` (struct with `bytes`: an encoded image) and `label`. Raises DataError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pictures = {}
    for name, table in tables.items():
        at = f"{where}, {name}"
        parquet.require_columns(table, ("img", "label"), at)
        kind = table["img"].type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise DataError(f"{at}: img is {kind}, an image (struct<bytes, path>) is needed")
        encoded = pc.struct_field(table["img"], "bytes")
        if encoded.null_count:
            raise DataError(f"{at}: {encoded.null_count} images have no bytes")
        if not (pa.types.is_binary(encoded.type) or pa.types.is_large_binary(encoded.type)):
            raise DataError(f"{at}: img.bytes is {encoded.type}, binary is needed")
        pictures[name] = Pictures(encoded.to_pylist(), parquet.labels(table, Image.num_classes, at), at)
    return pictures


def decode(encoded: bytes, where: str) -> np.ndarray:
    """uint8 (32, 32, 3) of a PNG of 8-bit RGB or of a JPEG. Raises DataError."""
    try:
        if len(encoded) > png.LARGEST:
            raise ValueError(f"{len(encoded):,} bytes are more than an image of {SIDE}x{SIDE} can have")
        if encoded.startswith(JPEG):
            return png.pixels(encoded, SIDE, "RGB", "JPEG")
        header = png.header(encoded)
        if header == (SIDE, SIDE, 8, png.RGB):
            return png.pixels(encoded, SIDE, "RGB")
    except ValueError as error:
        raise DataError(f"{where}: the image cannot be decoded ({error})") from error
    raise DataError(f"{where}: the image is {header}; {SIDE}x{SIDE} of 8-bit RGB is needed")


def rgb_chunks(pictures: Pictures, size: int = 1000) -> Iterator[np.ndarray]:
    """uint8 (n, 32, 32, 3), n at most `size`: so that colours are never all in memory."""
    for start in range(0, len(pictures.labels), size):
        chunk = pictures.images[start : start + size]
        if isinstance(chunk, np.ndarray):
            yield chunk
        else:
            yield np.stack([decode(e, f"{pictures.where}, row {start + i}") for i, e in enumerate(chunk)])


def write(draft: Path, pictures: Mapping[str, Pictures]) -> dict[str, Any]:
    """Store grey pixels uint8 (N, 1024) and labels; returns the facts for the manifest."""
    whole, jpeg = hashlib.sha256(), 0
    for name, of_split in pictures.items():
        pixels = np.concatenate([grey(chunk).reshape(-1, PIXELS) for chunk in rgb_chunks(of_split)])
        labels = of_split.labels.astype("<i8")
        np.save(draft / f"{name}_pixels.npy", pixels)
        np.save(draft / f"{name}_labels.npy", labels)
        whole.update(pixels)
        whole.update(labels)
        jpeg += sum(isinstance(e, bytes) and e.startswith(JPEG) for e in of_split.images)
    return {"contents": whole.hexdigest()[:16], "jpeg": jpeg}


def source_digest(pictures: Mapping[str, Pictures]) -> str:
    """Digest of a source as it stands, before anything is decoded."""
    whole = hashlib.sha256()
    for of_split in pictures.values():
        for image in of_split.images:
            whole.update(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
        whole.update(of_split.labels.astype("<i8"))
    return whole.hexdigest()
