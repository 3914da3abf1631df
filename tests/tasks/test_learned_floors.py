"""The fitted floors: each learns what it can see, and nothing that it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lra.tasks.base import DataError, Ragged
from lra.tasks.floors import learned
from lra.tasks.floors.learned import byte_histogram, byte_ngrams, hashed, linear, small_cnn
from lra.tasks.text import Text


def split_of(items: list[np.ndarray], labels: np.ndarray, documents: int = 1) -> Ragged:
    """A split over raw values; tokens are one more, as in every task."""
    offsets = np.cumsum([0, *map(len, items)])
    return Ragged(np.concatenate(items).astype(np.uint8), offsets, labels, 10**6, documents, shift=1)


def halves(items: list[np.ndarray], labels: np.ndarray) -> tuple[Ragged, Ragged]:
    middle = len(items) * 2 // 3
    return split_of(items[:middle], labels[:middle]), split_of(items[middle:], labels[middle:])


def accuracy(rule, train: Ragged, test: Ragged) -> float:
    predicted = rule(train, test)
    assert predicted.shape == test.labels.shape
    return float((predicted == test.labels).mean())


def shuffled_words(seed: int = 0) -> tuple[Ragged, Ragged]:
    """Class 1 holds "abc" among its letters, class 0 the same letters apart: same histogram."""
    rng = np.random.default_rng(seed)
    items, labels = [], rng.integers(0, 2, 450)
    for label in labels:
        text = rng.choice([*b"xyz "], rng.integers(30, 60))
        for letters in [b"abc"] * 3 if label else [b"a", b"b", b"c"] * 3:
            at = rng.integers(0, len(text))
            text = np.insert(text, at, [*letters])
        items.append(text)
    return halves(items, labels)


def more_of_one_byte(seed: int = 0) -> tuple[Ragged, Ragged]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 450)
    return halves([rng.choice([0, 255], rng.integers(50, 90), p=[0.4 + y / 5, 0.6 - y / 5]) for y in labels], labels)


def bars(seed: int = 0, side: int = 8) -> tuple[Ragged, Ragged]:
    """A bar, upright or lying, anywhere (on over the edge): no pixel alone tells which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 900)
    bar = np.zeros((side, side), np.uint8)
    bar[0, :4] = 255
    images = [np.roll(bar.T if y else bar, rng.integers(0, side, 2), (0, 1)).ravel() for y in labels]
    return halves(images, labels)


def templates(seed: int = 0, side: int = 8) -> tuple[Ragged, Ragged]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 900)
    means = rng.integers(80, 170, (3, side * side))
    return halves(list(np.clip(means[labels] + rng.normal(0, 60, (900, side * side)), 0, 255)), labels)


def test_histogram_sees_frequencies_and_no_order() -> None:
    assert accuracy(byte_histogram, *more_of_one_byte()) > 0.9
    assert accuracy(byte_histogram, *shuffled_words()) < 0.65


def test_ngrams_see_neighbours() -> None:
    assert accuracy(byte_ngrams, *shuffled_words()) > 0.95


def test_linear_sees_templates_and_no_shapes() -> None:
    assert accuracy(linear, *templates()) > 0.9
    assert accuracy(linear, *bars()) < 0.65


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty steps instead of minutes."""
    monkeypatch.setattr(learned, "CNN_PIXELS", 30 * 64 * learned.CNN_BATCH)


def test_cnn_sees_shapes(short: None) -> None:
    assert accuracy(small_cnn, *bars()) > 0.8


def test_rules_answer_twice_alike_and_leave_the_random_state_alone(short: None) -> None:
    import torch

    for rule, (train, test) in (
        (byte_histogram, shuffled_words()),
        (byte_ngrams, shuffled_words()),
        (linear, bars()),
        (small_cnn, bars()),
    ):
        torch.manual_seed(1)
        first = rule(train, test)
        torch.manual_seed(2)
        state = torch.random.get_rng_state()
        assert (rule(train, test) == first).all()
        assert torch.equal(torch.random.get_rng_state(), state)


def test_linear_fits_a_sample_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = templates()
    whole = accuracy(linear, train, test)
    monkeypatch.setattr(learned, "LINEAR_VALUES", 64 * 60)
    assert 0.5 < accuracy(linear, train, test) < whole


def test_hash_equals_the_slow_reference() -> None:
    tokens = np.random.default_rng(0).integers(1, 257, 40)
    whole, expected = 2**64, []
    for n in learned.ORDERS:
        for i in range(len(tokens) - n + 1):
            value = 0
            for token in tokens[i : i + n].tolist():
                value = (value * 0x9E3779B97F4A7C15 + token) % whole
            value = ((value ^ (value >> 31)) * 0xBF58476D1CE4E5B9) % whole
            expected.append(value >> (64 - learned.HASH_BITS))
    assert hashed(tokens).tolist() == expected
    assert hashed(tokens[:4]).tolist() == expected[:2] + expected[38:39]
    assert hashed(tokens[:2]).size == 0


def test_pairs_are_read_as_one_document_after_the_other() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    items = [rng.choice([1, 2], 40, p=[0.3 + 0.4 * y, 0.7 - 0.4 * y]) for y in labels for _ in range(2)]
    pairs = split_of(items, labels, documents=2)
    assert accuracy(byte_histogram, pairs, pairs) > 0.9


@pytest.mark.parametrize("rule", [linear, small_cnn])
def test_images_must_be_square(rule) -> None:
    oblong = split_of([np.zeros(63)] * 4, np.array([0, 1, 0, 1]))
    with pytest.raises(DataError, match="square images of one size"):
        rule(oblong, oblong)


@pytest.mark.shared
@pytest.mark.slow
def test_imdb_scores_are_the_known_ones(shared_data: Path) -> None:
    """Measured: 66.4 % and 89.8 % of 25,000."""
    task = Text(path=str(shared_data / "hub" / "stanfordnlp" / "imdb"))
    train, test = task.split("train"), task.split("test")
    rules = task.learned_rules()
    assert 0.64 < accuracy(rules["byte_histogram"], train, test) < 0.67
    assert 0.88 < accuracy(rules["byte_ngrams"], train, test) < 0.91
