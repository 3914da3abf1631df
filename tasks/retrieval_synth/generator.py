"""The documents of retrieval_synth, compiled."""

from __future__ import annotations

import numpy as np

from lra.tasks.retrieval_synth.words import COMMON, LONGEST, SUBJECTS, SYLLABLES
from lra.tasks.stream import below, compiled, next_u64

NAME_EVERY = 4  # filler words, on average
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def table(words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All words' bytes one after the other, and the bounds (N + 1,) of each."""
    return np.frombuffer("".join(words).encode(), np.uint8), np.cumsum([0, *map(len, words)])


WIDTH = len(SUBJECTS[0])
FACT_BYTES, FACT_BOUNDS = table(tuple(word for subject in SUBJECTS for word in subject))
COMMON_BYTES, COMMON_BOUNDS = table(COMMON)
SYLLABLE_BYTES, SYLLABLE_BOUNDS = table(SYLLABLES)


@compiled()
def opened(base: np.uint64, index: int, shortest: int, longest: int, ends: np.ndarray) -> tuple[np.ndarray, int]:
    """The state of item `index`, its label, and into ends (2,) the lengths of its documents."""
    state = np.empty(1, np.uint64)
    # Items 2j and 2j + 1 share the coin that says which of them matches.
    state[0] = base + np.uint64(index // 2) * GOLDEN
    label = int(next_u64(state) >> np.uint64(63)) ^ (index & 1)
    state[0] = base ^ (np.uint64(index) * GOLDEN)
    # The output, not the counter: neighbouring items would else read one stream, an item apart.
    state[0] = next_u64(state)
    for i in range(2):
        ends[i] = shortest + below(state, longest - shortest + 1)
    return state, label


@compiled()
def headers(base: np.uint64, count: int, shortest: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """labels int64 (N,) and lengths int64 (N, 2) of the first `count` items."""
    labels, lengths = np.empty(count, np.int64), np.empty((count, 2), np.int64)
    for i in range(count):
        _, labels[i] = opened(base, i, shortest, longest, lengths[i])
    return labels, lengths


@compiled()
def shuffled(state: np.ndarray, count: int) -> np.ndarray:
    order = np.arange(count)
    for i in range(count - 1, 0, -1):
        j = below(state, i + 1)
        order[i], order[j] = order[j], order[i]
    return order


@compiled()
def put(out: np.ndarray, at: int, end: int, letters: np.ndarray, bounds: np.ndarray, word: int) -> int:
    """Write a word at `at`, cut at `end`; where it stops."""
    for i in range(bounds[word], bounds[word + 1]):
        if at < end:
            out[at] = letters[i]
            at += 1
    return at


@compiled()
def paragraph(
    state: np.ndarray, out: np.ndarray, at: int, end: int, fact: int, mentions: int, names: np.ndarray
) -> None:
    """Fill out[at:end] with the fact `mentions` times and filler, the last word cut to fit, a new line."""
    end -= 1
    out[end] = 10
    size = FACT_BOUNDS[fact + 1] - FACT_BOUNDS[fact] + 1
    while at < end:
        slots = (end - at) // 5 + 1  # about as many words as still fit
        tight = end - at < mentions * size + 16  # the longest filler and more
        if mentions > 0 and (tight or below(state, slots) < mentions):
            at = put(out, at, end, FACT_BYTES, FACT_BOUNDS, fact)
            mentions -= 1
        elif below(state, NAME_EVERY) == 0:
            name = names[below(state, len(names))]
            for _ in range(3):
                at = put(out, at, end, SYLLABLE_BYTES, SYLLABLE_BOUNDS, name % len(SYLLABLES))
                name //= len(SYLLABLES)
        else:
            at = put(out, at, end, COMMON_BYTES, COMMON_BOUNDS, below(state, len(COMMON)))
        if at < end:
            out[at] = 32
            at += 1


@compiled()
def document(state: np.ndarray, length: int, told: np.ndarray, mentions: int, names: np.ndarray) -> np.ndarray:
    """uint8 (length,): a paragraph for each subject, told[subject] the word it repeats."""
    facts = len(told)
    weights = np.empty(facts, np.int64)
    for i in range(facts):
        weights[i] = 1 + below(state, 256)
    least = mentions * LONGEST
    free, total = length - facts * least, weights.sum()
    order = shuffled(state, facts)
    out = np.empty(length, np.uint8)
    at = share = 0
    for i in range(facts):
        share += weights[i]
        end = free * share // total + (i + 1) * least
        paragraph(state, out, at, end, told[order[i]] + order[i] * WIDTH, mentions, names)
        at = end
    return out


@compiled()
def draw(
    base: np.uint64, index: int, shortest: int, longest: int, facts: int, values: int, mentions: int, names: int
) -> tuple[np.ndarray, np.ndarray]:
    """The two documents, uint8, of item `index`."""
    lengths = np.empty(2, np.int64)
    state, label = opened(base, index, shortest, longest, lengths)
    told = np.empty(facts, np.int64)
    for i in range(facts):
        told[i] = below(state, values)
    known = np.empty(names, np.int64)
    for i in range(names):
        known[i] = below(state, len(SYLLABLES) ** 3)
    first = document(state, lengths[0], told, mentions, known)
    if label == 0:
        odd = below(state, facts)
        told[odd] = (told[odd] + 1 + below(state, values - 1)) % values
    for i in range(below(state, names + 1), names):
        known[i] = below(state, len(SYLLABLES) ** 3)
    second = document(state, lengths[1], told, mentions, known)
    return first, second
