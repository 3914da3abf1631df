"""The generated matching task: what it promises, and that short looks do not solve it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from lra.tasks.base import DataError, Example
from lra.tasks.floors.pairs import byte_ngram_cosine, length_and_histogram, tfidf_cosine, word_agreement
from lra.tasks.retrieval_synth.exam import RetrievalSynth
from lra.tasks.retrieval_synth.words import COMMON, SUBJECTS, SYLLABLES

FACTS = {word: (subject, value) for subject, words in enumerate(SUBJECTS) for value, word in enumerate(words)}
GOLDEN = ["40424f23682cd250", "4ec3f8d42791df9e", "b79538224cd15aa9"]  # of the first eight items of each split


def texts(example: Example) -> list[str]:
    return [(d - 1).astype(np.uint8).tobytes().decode("ascii") for d in example.documents]


def told(text: str) -> dict[int, int]:
    """subject -> value of the facts that a text states, read word by word: the slow, obvious solver."""
    return {FACTS[word][0]: FACTS[word][1] for word in text.split() if word in FACTS}


def solved(split, share: float = 1.0) -> float:
    """Accuracy of comparing the facts in the first `share` of both documents."""
    right = 0
    for i in range(len(split)):
        u, v = (told(text[: int(len(text) * share)]) for text in texts(split[i]))
        right += all(u[s] == v[s] for s in u.keys() & v.keys()) == split.labels[i]
    return right / len(split)


def contents(split) -> str:
    whole = hashlib.sha256()
    for i in range(len(split)):
        whole.update(b"\0".join(t.encode() for t in texts(split[i])) + bytes([split[i].label]))
    return whole.hexdigest()[:16]


@pytest.fixture(scope="module")
def task() -> RetrievalSynth:
    return RetrievalSynth(sizes=(600, 20, 400))


def test_the_same_bytes_for_ever(task: RetrievalSynth) -> None:
    """A change of these digests changes every score: it needs a new VERSION."""
    few = RetrievalSynth(sizes=(8, 8, 8))
    assert [contents(few.split(s)) for s in ("train", "valid", "test")] == GOLDEN
    assert contents(RetrievalSynth(sizes=(8, 8, 8), seed=1).split("train")) != GOLDEN[0]
    # Items are functions of their number: other sizes, another order, the same items.
    assert texts(task.split("train")[5]) == texts(few.split("train")[5])


def test_words_are_facts_or_filler_never_both() -> None:
    assert len(FACTS) == sum(map(len, SUBJECTS)) and not FACTS.keys() & set(COMMON)
    names = {a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES}
    assert not names & (FACTS.keys() | set(COMMON)) and len(names) > 50_000


def test_documents_state_every_fact_and_match_or_differ_in_one(task: RetrievalSynth) -> None:
    train = task.split("train")
    differing, orders = Counter(), set()
    for i in range(300):
        example = train[i]
        u, v = texts(example)
        for text in (u, v):
            counts = Counter(word for word in text.split() if word in FACTS)
            assert len(counts) == 4 and all(n >= 6 for n in counts.values())
            paragraphs = text.removesuffix("\n").split("\n")
            assert len(paragraphs) == 4 and all(len(told(p)) == 1 for p in paragraphs)
            orders.add(tuple(next(iter(told(p))) for p in paragraphs))
        one, other = told(u), told(v)
        odd = [s for s in range(4) if one[s] != other[s]]
        assert len(odd) == 1 - example.label == 1 - train.labels[i]
        differing.update(odd)
    assert len(orders) == 24 and min(differing.values()) > 20


def test_shapes(task: RetrievalSynth) -> None:
    train = task.split("train")
    assert train.labels.reshape(-1, 2).sum(axis=1).tolist() == [1] * 300
    assert 0.4 < train.labels[::2].mean() < 0.6  # which of two neighbours matches is a coin's
    for i in (0, 1, 77, -1):
        documents = train[i].documents
        assert max(map(len, documents)) == train.lengths[i] and min(map(len, documents)) >= 3000
        assert all(d.min() > 0 and d.max() < task.vocab_size for d in documents)
    assert train.lengths.max() <= 4000 and train.lengths.max() > 3990
    batch = task.collate([train[0], train[1]])
    assert batch.tokens.shape[:2] == (2, 2) and batch.tokens.dtype == batch.labels.dtype
    with pytest.raises(IndexError):
        train[600]


def test_no_item_occurs_twice(task: RetrievalSynth) -> None:
    seen = [texts(task.split(s)[i])[0][:200] for s in ("train", "valid", "test") for i in range(len(task.split(s)))]
    assert len(set(seen)) == len(seen)


def test_shared_names_do_not_tell_the_label(task: RetrievalSynth) -> None:
    train = task.split("train")
    known = FACTS.keys() | set(COMMON)

    def names(text: str) -> set[str]:
        return {word for word in text.split() if word not in known and len(word) >= 6}

    shared = np.array([len(set.intersection(*map(names, texts(train[i])))) for i in range(600)])
    labels = train.labels[:600]
    assert shared.min() == 0 and shared.max() >= 12
    assert abs(shared[labels == 1].mean() - shared[labels == 0].mean()) < 1.0  # 3 standard deviations


FLOORS = [length_and_histogram, tfidf_cosine, byte_ngram_cosine]


def from_chance(task: RetrievalSynth, rule: Callable) -> float:
    test = task.split("test")
    return abs((rule(task.split("train"), test) == test.labels).mean() - 0.5)


@pytest.mark.parametrize("rule", [FLOORS[0], *(pytest.param(rule, marks=pytest.mark.slow) for rule in FLOORS[1:])])
def test_floors_are_near_chance(task: RetrievalSynth, rule: Callable) -> None:
    assert from_chance(task, rule) < 0.075  # three standard deviations of 400 answers drawn by a coin


@pytest.mark.slow
@pytest.mark.parametrize("rule", FLOORS)
def test_floors_are_near_chance_with_much_to_fit_on(rule: Callable) -> None:
    assert from_chance(RetrievalSynth(sizes=(10_000, 10, 2_000)), rule) < 0.05


def test_floors_do_see_what_there_is_to_see() -> None:
    """With facts in every other word, the same rules are far from chance: the test above can fail."""
    loud = RetrievalSynth(max_len=400, facts=2, values=4, mentions=12, names=1, sizes=(1000, 10, 400))
    train, test = loud.split("train"), loud.split("test")
    for rule in (length_and_histogram, byte_ngram_cosine):
        assert (rule(train, test) == test.labels).mean() > 0.65


def test_the_whole_of_both_is_needed(task: RetrievalSynth) -> None:
    test = task.split("test")
    assert solved(test) == 1.0
    assert 0.58 < solved(test, 0.5) < 0.74  # two thirds
    assert solved(test, 0.25) < 0.64


@pytest.mark.slow
def test_it_can_be_learnt_from_the_words_of_whole_documents() -> None:
    """What knows words learns it from examples; on halves the same learner is lost."""

    class Halves:
        def __init__(self, split) -> None:
            self.split, self.labels = split, split.labels

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> Example:
            example = self.split[index]
            return Example(tuple(d[: len(d) // 2] for d in example.documents), example.label)

    short = RetrievalSynth(max_len=800, values=4, mentions=3, names=4, sizes=(2000, 10, 400))
    train, test = short.split("train"), short.split("test")
    assert (word_agreement(train, test) == test.labels).mean() > 0.97
    assert (word_agreement(Halves(train), Halves(test)) == test.labels).mean() < 0.75


def test_rows_and_fingerprints_tell_difficulties_apart() -> None:
    assert RetrievalSynth().row == "retrieval_synth"
    assert RetrievalSynth(max_len=2000).row == "retrieval_synth-2000"
    assert RetrievalSynth(facts=2).row == "retrieval_synth-2x8x6"
    prints = [RetrievalSynth(**o).fingerprint() for o in ({}, {"seed": 1}, {"names": 3}, {"sizes": (10, 10, 10)})]
    assert len(set(prints)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facts": 9}, "task.facts: 9 is not a whole number from 1 to 8"),
        ({"values": 1}, "task.values"),
        ({"mentions": 0}, "task.mentions"),
        ({"names": 1.5}, "task.names"),
        ({"seed": -1}, "task.seed"),
        ({"sizes": [1, 2]}, "task.sizes"),
        ({"max_len": 100}, "task.max_len: 100 leaves no room for 4 facts stated 6 times; at least 320 is needed"),
    ],
)
def test_bad_options_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        RetrievalSynth(**options)


def test_the_shortest_that_fits_holds_all_facts() -> None:
    tight = RetrievalSynth(max_len=320, sizes=(200, 2, 2)).split("train")
    assert solved(tight) == 1.0
