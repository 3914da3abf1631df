"""A floor for Pathfinder: the class from where the two discs are, without looking at any curve.

Both classes show one end of a snake near the middle and one free end, but the original plants its
two snakes by different rules, so the places alone tell more than chance.
"""

from __future__ import annotations

import math

import numpy as np

from lra.tasks.base import Split

SAMPLE = 40_000  # training images looked at


def find_discs(images: np.ndarray, radius: float) -> np.ndarray:
    """Rows and columns (N, 4) of the two discs of (N, R, R) uint8 images, the one nearer to the
    middle first: where a disc of that radius fits best, and best farther than its width from there."""
    count, size = len(images), images.shape[1]
    reach = math.ceil(radius)
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach))).astype(np.int32)
    fit = np.zeros(images.shape, np.int32)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            if y * y + x * x <= radius * radius:
                fit += padded[:, reach + y : reach + y + size, reach + x : reach + x + size]
    rows, columns = np.mgrid[:size, :size]
    found = []
    for _ in range(2):
        y, x = np.divmod(fit.reshape(count, -1).argmax(1), size)
        found.append(np.stack((y, x), 1))
        fit[(rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2 <= (2 * radius + 1) ** 2] = -1
    first, second = found
    middle = size / 2
    swap = ((second - middle) ** 2).sum(1) < ((first - middle) ** 2).sum(1)
    return np.where(swap[:, None], np.hstack((second, first)), np.hstack((first, second)))


def places(split: Split, radius: float, limit: int, block: int = 500) -> np.ndarray:
    """(N, 8): rows, columns, displacement, distance and direction of the discs of the first `limit`."""
    count, out = min(len(split), limit), []
    for start in range(0, count, block):
        items = [split[i].documents[0] - 1 for i in range(start, min(start + block, count))]
        side = math.isqrt(len(items[0]))
        out.append(find_discs(np.stack(items).astype(np.uint8).reshape(-1, side, side), radius))
    discs = np.concatenate(out)
    apart = discs[:, 2:] - discs[:, :2]
    return np.column_stack((discs, apart, np.hypot(*apart.T), np.arctan2(*apart.T)))


def disc_places(radius: float, sample: int = SAMPLE):
    """The rule, for `Task.rules`: boosted trees on the two places."""

    def rule(train: Split, test: Split) -> np.ndarray:
        from sklearn.ensemble import HistGradientBoostingClassifier

        labels = train.labels[:sample]
        if len(np.unique(labels)) < 2:
            return np.full(len(test), labels[0])
        trees = HistGradientBoostingClassifier(max_iter=200, random_state=0)
        trees.fit(places(train, radius, sample), labels)
        return trees.predict(places(test, radius, len(test))).astype(np.int64)

    return rule
