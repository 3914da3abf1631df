"""What answers without a mixer: the majority, and the best guess from a few tokens around the question.

Each is a rule(train, test) -> predicted classes (N, L) of which those asked for count. They are fitted on the first
FIT items of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lra.tasks.ability.draw import mixed, salts
from lra.tasks.ability.items import Items
from lra.tasks.base import NOT_ASKED

FIT = 20_000
ENOUGH = 30  # sightings of a context, or a smaller one is asked

Rule = Callable[[Items, Items], np.ndarray]


def majority(train: Items, test: Items) -> np.ndarray:
    """The most frequent class of train, whatever the input."""
    labels = train.drawn(np.arange(FIT)).labels
    return np.full(test.labels.shape, np.bincount(labels[labels != NOT_ASKED]).argmax())


def window(reach: int) -> Rule:
    """The most frequent class where these tokens stood, from -reach to +reach, and at this position.

    Contexts, widest first: all those tokens; those up to the middle; ever fewer of them; each with the position, then
    without. The first that was seen ENOUGH times answers.
    """

    def rule(train: Items, test: Items) -> np.ndarray:
        fit, asked = train.drawn(np.arange(FIT)), test.labels != NOT_ASKED
        known = fit.labels != NOT_ASKED
        out = np.full(test.labels.shape, np.bincount(fit.labels[known]).argmax())
        found, open_ = out[asked], np.ones(int(asked.sum()), bool)
        for seen, met in zip(contexts(fit.tokens, known, reach), contexts(test.all.tokens, asked, reach), strict=True):
            best, there = looked_up(seen, fit.labels[known], met)
            found[open_ & there] = best[open_ & there]
            open_ &= ~there
        out[asked] = found
        return out

    return rule


def contexts(tokens: np.ndarray, asked: np.ndarray, reach: int) -> Iterator[np.ndarray]:
    """Hashes uint64 (answers,) of what is seen around each position that is asked, widest first."""
    length = tokens.shape[1]
    padded = np.pad(tokens, ((0, 0), (reach, reach))).astype(np.uint64)
    weights = salts("window", 2 * reach + 2)
    rows, columns = np.nonzero(asked)
    for before, after in dict.fromkeys((near, right) for near in range(reach, -1, -1) for right in (near, 0)):
        steps = range(reach - before, reach + after + 1)
        sight = sum((padded[rows, columns + s] * weights[s] for s in steps), np.zeros(len(rows), np.uint64))
        yield mixed(sight + (columns.astype(np.uint64) + np.uint64(1)) * weights[-1] + np.uint64(length))
        yield mixed(sight)


def looked_up(seen: np.ndarray, labels: np.ndarray, met: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For contexts met (m,) the most frequent of labels (n,) under the same context in seen (n,), and whether it was
    seen ENOUGH times."""
    classes = int(labels.max()) + 1
    known, which = np.unique(seen, return_inverse=True)
    pairs, counts = np.unique(which * classes + labels, return_counts=True)
    context = pairs // classes
    best = np.zeros(len(known), np.int64)
    ascending = np.lexsort((-pairs, counts))  # the last one stays: the most frequent, of equals the first class
    best[context[ascending]] = pairs[ascending] % classes
    often = np.bincount(which, minlength=len(known)) >= ENOUGH
    at = np.searchsorted(known, met).clip(max=len(known) - 1)
    there = (known[at] == met) & often[at]
    return best[at], there
