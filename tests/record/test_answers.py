"""Stored answers as other writers of the same format may have them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

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
    assert [part.tolist() for part in found[:2]] == [[3, 1, 2], [3, 0, 2]] and found[2] is None


def test_clusters_that_fit_no_answers_are_refused() -> None:
    for clusters in ([0, 1], [0.0, 1.0, 2.0]):
        with pytest.raises(ValueError, match="clusters"):
            answers.arrays(saved(predictions=[1, 1, 1], labels=[1, 0, 1], clusters=clusters))


def saved(**arrays: list) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(values) for name, values in arrays.items()})
    return file.getvalue()


def test_answers_to_one_sequence_count_as_one(tmp_path: Path) -> None:
    """Whatever numbers the sequences have, and with more answers in some; those of other sequences are not compared."""
    labels, right = [0, 1, 1, 0, 2, 2], np.array([1, 1, 0, 0, 0, 1], bool)
    predictions = np.where(right, labels, 3)
    for name, clusters in (("a", [7, 7, 7, 2**40, 2**40, 9]), ("b", [1, 1, 1, 3, 3, 2]), ("c", [1, 1, 3, 3, 2, 2])):
        (tmp_path / name).write_bytes(saved(predictions=predictions, labels=labels, clusters=clusters))
    found = answers.Answers()
    first = found.right([str(tmp_path / "a")])
    assert first.shape == (1, 3) and first.mean() == pytest.approx(right.mean())
    np.testing.assert_allclose(first, found.right([str(tmp_path / "b")])[:, [0, 1, 2]])
    assert found.right([str(tmp_path / "a"), str(tmp_path / "c")]) is None


def test_many_answers_of_a_sequence_are_kept_small_and_read_back_the_same() -> None:
    """Also of classes beyond a byte, of sequences without an answer, and of predictions on both sides of a label."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(500), rng.integers(0, 80, 500))
    for classes in (2, 8, 300):
        labels = rng.integers(classes, size=len(clusters))
        for predictions in (labels, rng.integers(classes, size=len(clusters)), np.full_like(labels, classes - 1)):
            kept = answers.packed(predictions, labels, clusters, labels % 2)
            found = answers.arrays(kept)
            assert all(
                np.array_equal(a, b) for a, b in zip(found, (predictions, labels, clusters, labels % 2), strict=True)
            )
        plain = io.BytesIO()
        np.savez_compressed(plain, labels=labels.astype(np.uint16 if classes > 256 else np.uint8))
        learnt = answers.packed(labels, labels, clusters)
        assert len(learnt) < len(plain.getvalue()) + 2000, "what is right takes the room of the labels"


def test_differences_and_numbers_of_answers_that_fit_no_labels_are_refused() -> None:
    one = {"labels": np.zeros(3, np.uint8), "differences": np.zeros(3, np.uint8)}
    for other, words in (
        ({"labels": np.zeros(2, np.uint8)}, "without the labels"),
        ({"differences": np.zeros(3, np.int8)}, "without the labels"),
        ({"answers": np.array([1, 1], np.uint8)}, "not 3 in all"),
        ({"answers": np.array([5, -2])}, "not 3 in all"),
        ({"answers": np.array([2**40])}, "not 3 in all"),
    ):
        with pytest.raises(ValueError, match=words):
            answers.arrays(saved(**(one | other)))
    with pytest.raises(ValueError, match="without the labels"):
        answers.arrays(saved(differences=one["differences"]))


def test_answers_apart_are_those_of_the_same_items(tmp_path: Path) -> None:
    labels, clusters = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])
    for name, kinds in (("a", [0, 2, 2, 0]), ("b", [0, 2, 2, 0]), ("c", [0, 0, 2, 2]), ("d", None)):
        kept = answers.packed(np.array([0, 1, 0, 0]), labels, clusters, kinds)
        (tmp_path / name).write_bytes(kept)
    found, path = answers.Answers(), {name: str(tmp_path / name) for name in "abcd"}
    right, kinds, sequences = found.apart([path["a"], path["b"]])
    assert right.tolist() == [[True, True, False, True]] * 2
    assert kinds.tolist() == [0, 2, 2, 0] and sequences.tolist() == [0, 0, 1, 1]
    assert found.apart([path["a"], path["c"]]) is found.apart([path["d"]]) is found.apart([None]) is None
    (tmp_path / "e").write_bytes(saved(predictions=[1, 1], labels=[1, 1], kinds=[-1, 0]))
    assert found.apart([str(tmp_path / "e")]) is None and "kinds -1 to 0" in found.broken[str(tmp_path / "e")]
