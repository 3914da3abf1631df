"""The stored answers of runs: which test items a model got right."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lra.record.content import MIB, content

LARGEST = 64 * MIB  # of the file, and of each array in it
CLASSES = 2**16


@dataclass(frozen=True)
class Stored:
    """What is kept of one file, an eighth of a byte an item.

    right     packed bits; null before schema 2, which kept no labels
    labels    (N,), one object for all files with the same ones
    """

    items: int
    right: np.ndarray | None
    labels: np.ndarray | None
    sha256: str

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None else float(self.hits().mean())

    def hits(self) -> np.ndarray:
        """bool (N,): where the model is right."""
        return np.unpackbits(self.right, count=self.items).view(bool)


class Answers:
    """The stored answers below a results folder, each file read once, when it is first asked for.

    broken   file -> what is wrong with it, in one line; its run is shown without ranks
    """

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._read: dict[str, Stored | None] = {}
        self._labels: dict[bytes, np.ndarray] = {}

    def stored(self, path: str) -> Stored | None:
        """Null where no answers can be had from the file; `broken` says why."""
        if path not in self._read:
            try:
                self._read[path] = self._opened(path)
            except ValueError as error:
                self._read[path] = None
                if not isinstance(error.__cause__, FileNotFoundError):  # who gives records away may keep the answers
                    self.broken[path] = str(error)
        return self._read[path]

    def right(self, paths: Sequence[str | None]) -> np.ndarray | None:
        """bool (S, N): is the model of the s-th file right on item i? None unless every run has kept its
        answers with the labels, on the same test items."""
        if not len(paths) or any(not isinstance(p, str) for p in paths):
            return None
        found = [self.stored(p) for p in paths]
        if any(f is None or f.right is None or f.labels is not found[0].labels for f in found):
            return None
        return np.stack([f.hits() for f in found])

    def chance(self, path: str | None) -> float | None:
        """The share of the commonest label among the test items: what a constant answer scores."""
        found = self.stored(path) if isinstance(path, str) else None
        return None if found is None or found.labels is None else float(np.bincount(found.labels).max() / found.items)

    def _opened(self, path: str) -> Stored:
        data = content(path, LARGEST)
        predictions, labels = arrays(data)
        digest = hashlib.sha256(data).hexdigest()
        if labels is None:
            return Stored(len(predictions), None, None, digest)
        labels = labels.astype(np.uint16)
        labels = self._labels.setdefault(labels.tobytes(), labels)
        return Stored(len(predictions), np.packbits(predictions == labels), labels, digest)


def arrays(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """(predictions, labels), each (N,), of an npz file; labels are null before schema 2. ValueError in one line."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            named = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if "predictions" not in named:
                raise ValueError("has no predictions")
            found = {key: _array(archive, named[key]) for key in ("predictions", "labels") if key in named}
    except ValueError:
        raise
    except Exception as error:  # zipfile and zlib have errors of their own for a damaged file
        raise ValueError(f"is damaged ({str(error) or type(error).__name__})") from error
    predictions, labels = found["predictions"], found.get("labels")
    if labels is not None and labels.shape != predictions.shape:
        raise ValueError(f"has labels {labels.shape} for predictions {predictions.shape}; allowed the same shape")
    if labels is not None and (labels.min() < 0 or labels.max() >= CLASSES):
        raise ValueError(f"has labels {labels.min()} to {labels.max()}; allowed 0 to {CLASSES - 1}")
    return predictions, labels


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Whole numbers (N,) of a member. Its header is judged before what it promises is made room for."""
    with archive.open(name) as member:
        data = member.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"has more than {LARGEST // MIB} MiB of {name}")
    try:
        wide = 2 if data[6:7] <= b"\x01" else 4  # bytes of the header's length, by the format's version
        start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
        shape, dtype = _header(data[:start])
    except ValueError as error:
        raise ValueError(f"has no header of an array in {name}") from error
    if dtype.kind not in "iu" or len(shape) != 1 or shape[0] < 1 or shape[0] * dtype.itemsize != len(data) - start:
        raise ValueError(f"{name} is {dtype} {shape} in {len(data) - start} bytes; allowed whole numbers (N,)")
    return np.frombuffer(data, dtype, offset=start)


@functools.lru_cache(maxsize=256)
def _header(head: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, type) of an array file from its header; thousands of files have one of a few headers."""
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def packed(predictions: Any, labels: Any, clusters: Any = None, kinds: Any = None) -> bytes:
    """The predicted and the right class of each answer, in order, as a compressed npz; and, where an item has
    several answers, to which item each belongs and, by its number in the record's `score.kinds`, of which kind it is.

    With the labels beside them, two models can be compared item by item without the data.
    """
    found = {"predictions": np.asarray(predictions), "labels": np.asarray(labels)}
    found |= {k: np.asarray(v) for k, v in (("clusters", clusters), ("kinds", kinds)) if v is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: v.astype(np.min_scalar_type(int(v.max()))) for k, v in found.items()})
    return buffer.getvalue()
