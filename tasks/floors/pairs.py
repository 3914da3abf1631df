"""Floors for pairs of documents: what matches without reading.

Each is a rule(train, test) -> predicted classes (N,), deterministic, minutes on a CPU. They fit on
the first FIT pairs of a fixed shuffle of train and score all of test. scikit-learn is imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from lra.tasks.base import BYTE_VOCABULARY, Split
from lra.tasks.floors.learned import HASH_BITS, hashed

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


FIT = 10_000  # pairs
PART = 1_000  # pairs whose features are in memory at a time


def length_and_histogram(train: Split, test: Split) -> np.ndarray:
    """Logistic regression on how far lengths and byte frequencies of the two documents are apart.

    Features: difference of the lengths and of their logarithms, shared mass and cosine of the two
    histograms, and the difference of each byte's frequency (of square roots, so that rare bytes
    count). It knows how often, not where.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit = chosen(train)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(apart(train, fit), train.labels[fit])
    return np.concatenate([model.predict(apart(test, part)) for part in parts(len(test))])


def apart(split: Split, indices: np.ndarray) -> np.ndarray:
    """Features (n, 4 + 257) of pairs, the same for either order of the documents."""
    features = []
    for i in indices:
        u, v = split[int(i)].documents
        p, q = (np.bincount(d, minlength=BYTE_VOCABULARY) / len(d) for d in (u, v))
        cosine = p @ q / np.sqrt((p @ p) * (q @ q))
        overall = [abs(len(u) - len(v)), abs(np.log(len(u) / len(v))), np.minimum(p, q).sum(), cosine]
        features.append(np.concatenate((overall, abs(np.sqrt(p) - np.sqrt(q)))))
    return np.stack(features)


def tfidf_cosine(train: Split, test: Split) -> np.ndarray:
    """Cosine of the documents' tf-idf vectors over words, against the threshold that is best on train.

    Words are runs of two or more letters, digits and underscores, of which those in more than a
    fifth of the fitted documents are left out: they tell no subject. Counts enter as 1 + log.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    fit = chosen(train)
    weigh = TfidfVectorizer(sublinear_tf=True, max_df=0.2, dtype=np.float32)
    weigh.fit(text for column in (0, 1) for text in texts(train, fit, column))
    return by_cosine(train, test, fit, lambda *which: weigh.transform(texts(*which)))


def word_agreement(train: Split, test: Split) -> np.ndarray:
    """Logistic regression on which words one document has and the other lacks: both read whole, by one
    who is told what a word is and learns which of them matter. Words in under 1 % of the fitted
    documents are left out.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    fit = chosen(train)
    seen = CountVectorizer(binary=True, min_df=0.01, dtype=np.float32)
    seen.fit(text for column in (0, 1) for text in texts(train, fit, column))

    def differing(split: Split, indices: np.ndarray) -> csr_matrix:
        u, v = (seen.transform(texts(split, indices, column)) for column in (0, 1))
        return abs(u - v)

    model = LogisticRegression(C=0.1, max_iter=1000).fit(differing(train, fit), train.labels[fit])
    return np.concatenate([model.predict(differing(test, part)) for part in parts(len(test))])


def byte_ngram_cosine(train: Split, test: Split) -> np.ndarray:
    """The same over all hashed byte 3- to 5-grams."""
    from sklearn.feature_extraction.text import TfidfTransformer

    fit = chosen(train)[: FIT // 5]
    weigh = TfidfTransformer(sublinear_tf=True).fit(ngrams(train, fit, 0))
    return by_cosine(train, test, fit, lambda *which: weigh.transform(ngrams(*which)))


def by_cosine(
    train: Split, test: Split, fit: np.ndarray, vectors: Callable[[Split, np.ndarray, int], csr_matrix]
) -> np.ndarray:
    """Classes of test by the cosine of vectors(split, indices, column), which have unit length."""

    def cosines(split: Split, indices: np.ndarray) -> np.ndarray:
        u, v = (vectors(split, indices, column) for column in (0, 1))
        return np.asarray(u.multiply(v).sum(axis=1)).ravel()

    known = np.concatenate([cosines(train, fit[part]) for part in parts(len(fit))])
    limit = threshold(known, train.labels[fit])
    return np.concatenate([cosines(test, part) > limit for part in parts(len(test))]).astype(np.int64)


def threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The value above which most scores (N,) are of class 1 and below which most are of class 0."""
    order = np.argsort(scores, kind="stable")
    sign = np.where(labels[order] == 1, 1, -1)
    # Right answers when the first k are called 0: zeros among them and ones after, up to a constant.
    k = int(np.argmax(np.concatenate(([0], np.cumsum(-sign)))))
    ranked = scores[order]
    below = ranked[k - 1] if k else -np.inf
    above = ranked[k] if k < len(ranked) else np.inf
    return float(np.clip((below + above) / 2, np.nextafter(below, above), above))


def texts(split: Split, indices: np.ndarray, column: int) -> Iterator[str]:
    """One document of each pair, a character a byte."""
    return ((split[int(i)].documents[column] - 1).astype(np.uint8).tobytes().decode("latin-1") for i in indices)


def ngrams(split: Split, indices: np.ndarray, column: int) -> csr_matrix:
    """Counts (n, 2^HASH_BITS) of the hashed n-grams of one document of each pair."""
    from scipy.sparse import csr_matrix

    found = [np.unique(hashed(split[int(i)].documents[column]), return_counts=True) for i in indices]
    ends = np.cumsum([0, *(len(slots) for slots, _ in found)])
    slots, counts = (np.concatenate(flat) for flat in zip(*found, strict=True))
    return csr_matrix((counts.astype(np.float32), slots.astype(np.int64), ends), shape=(len(indices), 1 << HASH_BITS))


def chosen(split: Split) -> np.ndarray:
    """The pairs that are fitted on."""
    return np.random.default_rng(0).permutation(len(split))[:FIT]


def parts(count: int) -> Iterator[np.ndarray]:
    return (np.arange(i, min(i + PART, count)) for i in range(0, count, PART))
