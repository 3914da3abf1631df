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
_KNOWN = ("predictions", "labels", "clusters", "differences", "answers", "kinds")


@dataclass(frozen=True)
class Stored:
    """What is kept of one file, an eighth of a byte an item.

    right     packed bits; null before schema 2, which kept no labels
    labels    (N,), one object for all files with the same ones
    clusters  (N,) from 0 on, to which sequence an answer belongs, shared likewise; null where each has one
    kinds     (N,), by which answers are reported apart, by number, shared likewise; null where they are not
    """

    items: int
    right: np.ndarray | None
    labels: np.ndarray | None
    sha256: str
    clusters: np.ndarray | None = None
    kinds: np.ndarray | None = None

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
        self._clusters: dict[bytes, np.ndarray] = {}
        self._kinds: dict[bytes, np.ndarray] = {}

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
        """bool (S, N): is the model of the s-th file right on item i? Where sequences have several answers, of
        which right ones are no independent items, float (S, sequences) as `by_sequence` gives them. None unless
        every run has kept its answers with the labels, on the same test items."""
        if (found := self._alike(paths)) is None:
            return None
        right, clusters = np.stack([f.hits() for f in found]), found[0].clusters
        return right if clusters is None else by_sequence(right, clusters)

    def apart(self, paths: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """right, bool (S, N), and of each answer the number of its kind and its sequence, (N,). None as of `right`,
        and where answers are of one kind."""
        found = self._alike(paths)
        if found is None or found[0].kinds is None or any(f.kinds is not found[0].kinds for f in found):
            return None
        one, right = found[0], np.stack([f.hits() for f in found])
        return right, one.kinds, np.arange(one.items) if one.clusters is None else one.clusters

    def _alike(self, paths: Sequence[str | None]) -> list[Stored] | None:
        """What is kept of files with labels, all on the same test items."""
        if not len(paths) or any(not isinstance(p, str) for p in paths):
            return None
        found = [self.stored(p) for p in paths]
        if any(f is None or f.right is None or f.labels is not found[0].labels for f in found):
            return None
        return found if all(f.clusters is found[0].clusters for f in found) else None

    def chance(self, path: str | None) -> float | None:
        """The share of the commonest label among the test items: what a constant answer scores."""
        found = self.stored(path) if isinstance(path, str) else None
        return None if found is None or found.labels is None else float(np.bincount(found.labels).max() / found.items)

    def _opened(self, path: str) -> Stored:
        data = content(path, LARGEST)
        predictions, labels, clusters, kinds = arrays(data)
        digest = hashlib.sha256(data).hexdigest()
        if labels is None:
            return Stored(len(predictions), None, None, digest)
        labels = labels.astype(np.uint16)
        labels = self._labels.setdefault(labels.tobytes(), labels)
        if clusters is not None:
            key = clusters.dtype.str.encode() + clusters.tobytes()
            if key not in self._clusters:
                self._clusters[key] = np.unique(clusters, return_inverse=True)[1].astype(np.uint32)
            clusters = self._clusters[key]
        if kinds is not None:
            kinds = kinds.astype(np.uint16)
            kinds = self._kinds.setdefault(kinds.tobytes(), kinds)
        return Stored(len(predictions), np.packbits(predictions == labels), labels, digest, clusters, kinds)


def by_sequence(right: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """float (S, C) of right (S, N) and clusters (N,) from 0 to C - 1, each with an answer: a number a sequence, whose
    mean is the accuracy over all answers, and whose variance over C that of the accuracy.

    The accuracy is a ratio, of right answers to answers, because sequences hold more or fewer. Its linear form
    accuracy + (right_c - accuracy answers_c) / mean answers has that mean exactly and that variance but for O(1 / C)
    (Cochran 1977, Sampling Techniques, chapter 6).
    """
    answers = np.bincount(clusters)
    sums = np.stack([np.bincount(clusters, weights=row, minlength=len(answers)) for row in right])
    accuracy = right.mean(-1, keepdims=True)
    return accuracy + (sums - accuracy * answers) / answers.mean()


def arrays(data: bytes) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """(predictions, labels, clusters, kinds), each (N,), of an npz file; labels are null before schema 2, clusters
    where each item has one answer, kinds where all answers are of one. ValueError in one line."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            named = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if not {"predictions", "differences"} & set(named):
                raise ValueError("has no predictions")
            found = {key: _array(archive, named[key]) for key in _KNOWN if key in named}
    except ValueError:
        raise
    except Exception as error:  # zipfile and zlib have errors of their own for a damaged file
        raise ValueError(f"is damaged ({str(error) or type(error).__name__})") from error
    if "differences" in found:
        found["predictions"] = _predicted(found)
    if "answers" in found:
        found["clusters"] = _told_apart(found["answers"], len(found["predictions"]))
    predictions, labels, clusters, kinds = (found.get(key) for key in ("predictions", "labels", "clusters", "kinds"))
    for key, values in (("labels", labels), ("clusters", clusters), ("kinds", kinds)):
        if values is not None and values.shape != predictions.shape:
            raise ValueError(f"has {key} {values.shape} for predictions {predictions.shape}; allowed the same shape")
    for key, values in (("labels", labels), ("kinds", kinds)):
        if values is not None and (values.min() < 0 or values.max() >= CLASSES):
            raise ValueError(f"has {key} {values.min()} to {values.max()}; allowed 0 to {CLASSES - 1}")
    return predictions, labels, clusters, kinds


def _predicted(found: dict[str, np.ndarray]) -> np.ndarray:
    """The predictions whose differences to the labels are kept, modulo what their type holds."""
    labels, differences = found.get("labels"), found["differences"]
    if labels is None or labels.shape != differences.shape or differences.dtype.kind != "u":
        raise ValueError("has differences without the labels that they are to")
    return labels.astype(differences.dtype) + differences


def _told_apart(answers: np.ndarray, number: int) -> np.ndarray:
    """To which sequence each answer belongs. Nothing is made room for that is longer than the answers themselves."""
    if answers.min() < 0 or answers.max() > number or int(answers.sum(dtype=np.uint64)) != number:
        raise ValueError(f"has sequences of {answers.min()} to {answers.max()} answers, which are not {number} in all")
    return np.repeat(np.arange(len(answers), dtype=np.uint32), answers)


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
    """The predicted and the right class of each answer, in order, as a compressed npz.

    With the labels beside them, two models can be compared item by item without the data. Where an item has several
    answers (`clusters`: to which item each belongs, ascending) a test has a hundred thousand, and what is kept is
    small where a model is right: `differences` of the predictions to the labels modulo their type, the number of
    `answers` of each item, and `kinds`, by their number in the record's `score.kinds`.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if clusters is None:
        found = {"predictions": _small(predictions), "labels": _small(labels)}
    else:
        dtype = np.promote_types(_small(predictions).dtype, _small(labels).dtype)
        found = {"labels": labels.astype(dtype), "differences": predictions.astype(dtype) - labels.astype(dtype)}
        found["answers"] = _small(np.bincount(np.asarray(clusters)))
    found |= {} if kinds is None else {"kinds": _small(np.asarray(kinds))}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)
    return buffer.getvalue()


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.min_scalar_type(int(values.max())))
