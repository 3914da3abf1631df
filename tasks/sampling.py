"""Subsets that depend on the contents and a seed only: not on order, process or machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from lra.tasks.base import DataError, Split, Subset


def content_keys(contents: Iterable[bytes | memoryview | np.ndarray], seed: int = 0) -> np.ndarray:
    """One uint64 a content: equal for equal contents, otherwise as if drawn at random from `seed`."""
    salt = seed.to_bytes(16, "little", signed=True)
    digests = (hashlib.blake2b(c, digest_size=8, salt=salt).digest() for c in contents)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def stratified(labels: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """Indices, ascending, of `count` items with the classes in proportion, taken in order of `keys`.

    labels (N,) and keys (N,) give indices (count,). Items with equal keys go together, in or out,
    so that what is left shares no content with what is taken; where that leaves no room for a
    group, it stays out. Class shares are rounded by largest remainder.
    """
    classes, members = np.unique(labels, return_counts=True)
    share = members * (count / len(labels))
    room = np.floor(share).astype(int)
    room[np.argsort(room - share, kind="stable")[: count - room.sum()]] += 1
    left = dict(zip(classes.tolist(), room.tolist(), strict=True))
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][0] + np.uint64(1)))
    taken: list[int] = []
    for group in np.split(order, starts[1:]):
        if len(taken) == count:
            break
        of_group = labels[group].tolist()
        if all(of_group.count(c) <= left[c] for c in set(of_group)):
            for c in of_group:
                left[c] -= 1
            taken.extend(group.tolist())
    return np.sort(np.array(taken, np.int64))


def few(split: Split, keys: np.ndarray, count: int | None) -> Split:
    """At most `count` items of a split, by `stratified`; all of them for None."""
    if count is None or count >= len(split):
        return split
    return Subset(split, stratified(split.labels, keys, count))


def check_count(field: str, value: int | None) -> None:
    """Raise DataError unless `value` is None or a positive number."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise DataError(f"{field}: {value!r} is not a positive number, nor null for all")


def check_classes(labels: Iterable[int] | np.ndarray, where: str) -> None:
    """Raise DataError for training data of one class, from which nothing can be learnt."""
    found = np.unique(np.asarray(labels))
    if len(found) == 1:
        raise DataError(f"{where}: every training item has label {found[0]}; two classes at least are needed")


def under_two_labels(keys: np.ndarray, labels: np.ndarray) -> int:
    """How many contents, told apart by `keys` (N,), stand under more than one of `labels` (N,)."""
    pairs = np.unique(np.stack([keys.astype(np.uint64), labels.astype(np.uint64)]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
