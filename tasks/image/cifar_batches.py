"""The pickles of cifar-10-batches-py, read without running anything that stands in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from lra.tasks.base import DataError
from lra.tasks.hub import unreadable

FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


# All that rebuilding an array takes. NumPy 2 moved the first; Python 3 writes bytes by the last.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class Restricted(pickle.Unpickler):
    """Refuses every name that is not in ALLOWED, before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs") from None


def read_batches(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (N, 32, 32, 3) and labels int64 (N,) of "train" or "test". Raises DataError."""
    images, labels = zip(*(_read_batch(folder / name) for name in FILES[split]), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with file.open("rb") as handle:
            batch = Restricted(handle, encoding="bytes").load()
    except OSError as error:
        raise DataError(unreadable(file, error)) from error
    except Exception as error:  # a pickle that is cut or forged fails in any way it likes
        raise DataError(f"task.path: {file} is not a CIFAR-10 batch: {error}") from error
    batch = batch if isinstance(batch, dict) else {}
    data, labels = batch.get(b"data", batch.get("data")), batch.get(b"labels", batch.get("labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise DataError(f"task.path: {file} has no data of 3072 bytes an image")
    if not isinstance(labels, list) or len(labels) != len(data) or not len(data):
        raise DataError(f"task.path: {file} does not have one label an image")
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label <= 9:
            raise DataError(f"task.path: {file}, row {row}: label {label!r} is not one of 0 to 9")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels, np.int64)
