"""The stored answers of runs: which test items a model got right."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lra.errors import UserError


@functools.lru_cache(maxsize=1024)
def _read(path: str, changed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(predictions, labels), each (N,); no labels before schema 2. `changed` keys the cache."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            predictions = arrays["predictions"]
            labels = arrays.get("labels")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: no stored predictions can be read from it ({error})") from error
    except Exception as error:  # zipfile and zlib have errors of their own for a damaged file
        raise UserError(f"{path}: damaged ({error})") from error
    if predictions.ndim != 1 or (labels is not None and labels.shape != predictions.shape):
        raise UserError(f"{path}: predictions {predictions.shape}; allowed (N,), with labels of the same shape")
    return predictions, labels


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(predictions, labels) of a run, each (N,); labels are null before schema 2. UserError names the file."""
    path = Path(path)
    return _read(str(path), path.stat().st_mtime_ns if path.exists() else 0)


def right(paths: Sequence[str | None]) -> np.ndarray | None:
    """bool (S, N): is the model of the s-th file right on item i? None unless every run has kept its
    answers with the labels, on the same test items."""
    if not len(paths) or any(not isinstance(p, str) or not Path(p).exists() for p in paths):
        return None
    found = [read(p) for p in paths]
    labels = found[0][1]
    if labels is None or any(other is None or not np.array_equal(labels, other) for _, other in found):
        return None
    return np.stack([predictions == labels for predictions, _ in found])


def chance(path: str | None) -> float | None:
    """The share of the commonest label among the test items: what a constant answer scores."""
    labels = read(path)[1] if path and Path(path).exists() else None
    return None if labels is None else float(np.bincount(labels).max() / len(labels))


def packed(predictions: Any, labels: Any, clusters: Any = None) -> bytes:
    """The predicted and the right class of each answer, in order, as a compressed npz; and, where an item has
    several answers, to which item each belongs.

    With the labels beside them, two models can be compared item by item without the data.
    """
    import numpy as np

    arrays = {"predictions": np.asarray(predictions), "labels": np.asarray(labels)}
    if clusters is not None:
        arrays["clusters"] = np.asarray(clusters)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: v.astype(np.min_scalar_type(int(v.max()))) for k, v in arrays.items()})
    return buffer.getvalue()
