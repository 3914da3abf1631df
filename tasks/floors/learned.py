"""Floors and ceilings that are fitted: what a task gives to methods that see no long range.

Each is a rule(train, test) -> predicted classes (N,), deterministic, minutes on a CPU. scikit-learn
and torch are imported on use. The splits are those of a task: tokens are byte + 1 or intensity + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lra.tasks.base import BYTE_VOCABULARY, DataError, Split

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor, nn


ORDERS = (3, 4, 5)  # lengths of the byte n-grams
HASH_BITS = 20
LINEAR_VALUES = 1 << 28  # pixels that `linear` fits at most: 1 GiB of float32
RIDGE = 0.5  # penalty an item
CNN_PIXELS = 250_000 * 1024  # pixels that `small_cnn` trains on, in all
CNN_BATCH = 128
CNN_RATE = 3e-3


def byte_histogram(train: Split, test: Split) -> np.ndarray:
    """Logistic regression on byte frequencies: knows how often, not where.

    Square roots of relative frequencies, so that rare bytes count.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return model.fit(_histograms(train), train.labels).predict(_histograms(test))


def _histograms(split: Split) -> np.ndarray:
    counts = np.stack([np.bincount(_bytes(split, i), minlength=BYTE_VOCABULARY) for i in range(len(split))])
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True))


def _bytes(split: Split, index: int) -> np.ndarray:
    """All documents of an item, one after the other."""
    return np.concatenate(split[index].documents)


def byte_ngrams(train: Split, test: Split) -> np.ndarray:
    """Linear support vector machine on hashed byte 3- to 5-grams, tf-idf with logarithmic counts.

    No n-gram tells where it stands: what this scores needs no range beyond five bytes. Peak memory
    is about 3 GB for 22,500 reviews.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.svm import LinearSVC

    weigh = TfidfTransformer(sublinear_tf=True)
    features = weigh.fit_transform(_ngrams(train, range(len(train))))
    model = LinearSVC(C=0.3, random_state=0).fit(features, train.labels)
    del features
    parts = (range(i, min(i + 2000, len(test))) for i in range(0, len(test), 2000))
    return np.concatenate([model.predict(weigh.transform(_ngrams(test, part))) for part in parts])


def _ngrams(split: Split, indices: range) -> csr_matrix:
    """Counts (items, 2^HASH_BITS) of hashed n-grams."""
    from scipy.sparse import csr_matrix

    columns, counts, ends = [], [], [0]
    for i in indices:
        slots, times = np.unique(hashed(_bytes(split, i)), return_counts=True)
        columns.append(slots.astype(np.int32))
        counts.append(times.astype(np.float32))
        ends.append(ends[-1] + len(slots))
    flat = np.concatenate(counts).astype(np.float64)
    return csr_matrix((flat, np.concatenate(columns), np.array(ends)), shape=(len(indices), 1 << HASH_BITS))


def hashed(tokens: np.ndarray) -> np.ndarray:
    """Slots, in [0, 2^HASH_BITS), of all n-grams of ORDERS of tokens (L,), by a polynomial hash."""
    tokens = tokens.astype(np.uint64)
    slots, value = [], np.zeros(len(tokens), np.uint64)
    for n in range(1, max(ORDERS) + 1):
        value = value[: max(len(tokens) - n + 1, 0)] * np.uint64(0x9E3779B97F4A7C15) + tokens[n - 1 :]
        if n in ORDERS:
            mixed = (value ^ (value >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
            slots.append(mixed >> np.uint64(64 - HASH_BITS))
    return np.concatenate(slots)


def linear(train: Split, test: Split) -> np.ndarray:
    """Ridge regression of the classes on standardised pixels: a template each, no pixel beside another.

    Of large images only the first of a fixed shuffle are fitted, 2^28 pixels in all.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    most = max(LINEAR_VALUES // _side(train) ** 2, 1)
    chosen = np.random.default_rng(0).permutation(len(train))[:most]
    scale = StandardScaler(copy=False)
    pixels = scale.fit_transform(_images(train, chosen))
    model = RidgeClassifier(alpha=RIDGE * len(chosen)).fit(pixels, train.labels[chosen])
    return np.concatenate([model.predict(scale.transform(_images(test, part))) for part in _parts(test)])


def small_cnn(train: Split, test: Split) -> np.ndarray:
    """A convolutional network of three layers or more, after minutes of training.

    3x3 convolutions, each halving the side, down to 4x4, then one linear layer; batch norm, Adam on
    a one-cycle schedule, seed 0. It is given the grid, which no sequence model is told of.
    """
    import torch
    import torch.nn.functional as F

    side, classes = _side(train), int(train.labels.max()) + 1
    steps = max(CNN_PIXELS // (side * side * CNN_BATCH), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _network(side, classes).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=CNN_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, CNN_RATE, total_steps=steps)
        for _, chosen in zip(range(steps), _batches(len(train)), strict=False):
            loss = F.cross_entropy(model(_grids(train, chosen)), torch.from_numpy(train.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            return np.concatenate([model(_grids(test, part)).argmax(1).numpy() for part in _parts(test)])


def _network(side: int, classes: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    before, width = 1, 24
    while side > 4:
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        before, width, side = width, min(2 * width, 96), side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, classes))


def _batches(count: int) -> Iterator[np.ndarray]:
    """Batches of indices without end, every item once an epoch."""
    rng = np.random.default_rng(0)
    size = min(CNN_BATCH, count)
    while True:
        order = rng.permutation(count)
        yield from np.split(order[: count // size * size], count // size)


def _parts(split: Split, size: int = 500) -> Iterator[np.ndarray]:
    return (np.arange(i, min(i + size, len(split))) for i in range(0, len(split), size))


def _side(split: Split) -> int:
    """Side of the square images of a split. Raises DataError for what is no square."""
    side = math.isqrt(int(split.lengths[0]))
    if side < 4 or (split.lengths != side * side).any():
        raise DataError("floors: this rule needs square images of one size")
    return side


def _images(split: Split, indices: np.ndarray) -> np.ndarray:
    """Intensities float32 (n, side^2)."""
    return np.stack([split[int(i)].documents[0] for i in indices]).astype(np.float32) - 1


def _grids(split: Split, indices: np.ndarray) -> Tensor:
    """Intensities in [-1, 1], float32 (n, 1, side, side)."""
    import torch

    side = _side(split)
    grids = torch.from_numpy(_images(split, indices) / 127.5 - 1).reshape(-1, 1, side, side)
    return grids.contiguous(memory_format=torch.channels_last)
