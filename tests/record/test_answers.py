"""Stored answers as other writers of the same format may have them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from lra.record import answers


def npy(values: np.ndarray, version: tuple[int, int], header: int) -> bytes:
    """An array file whose header is padded to so many bytes, as the format allows."""
    text = f"{{'descr': '{values.dtype.str}', 'fortran_order': False, 'shape': {values.shape}, }}"
    wide = 2 if version == (1, 0) else 4
    padded = text.ljust(header - 1) + "\n"
    return b"\x93NUMPY" + bytes(version) + len(padded).to_bytes(wide, "little") + padded.encode() + values.tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("header", [118, 700, 5000])
def test_a_header_of_any_length_is_read(version: tuple[int, int], header: int) -> None:
    """Its length takes two bytes or four: one of less than 256 would show only the first."""
    predictions, labels = np.array([3, 1, 2], np.uint8), np.array([3, 0, 2], np.int64)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("predictions.npy", npy(predictions, version, header))
        archive.writestr("labels.npy", npy(labels, version, header))
    assert np.load(io.BytesIO(file.getvalue()))["labels"].tolist() == [3, 0, 2], "numpy's own reader agrees"
    found = answers.arrays(file.getvalue())
    assert [part.tolist() for part in found] == [[3, 1, 2], [3, 0, 2]]
