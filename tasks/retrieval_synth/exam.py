"""Generated pairs of documents that match or not: Retrieval's shapes without its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lra.tasks.base import BYTE_VOCABULARY, SPLITS, DataError, Example, Split, Task
from lra.tasks.retrieval_synth.words import LONGEST, SUBJECTS, VERSION

SIZES = (100_000, 5_000, 5_000)
DIFFICULTY = {"facts": 4, "values": 8, "mentions": 6, "names": 12}


class RetrievalSynth(Task):
    """Two documents match if they agree in every fact; those that do not match differ in just one.

    A document has a paragraph for each of `facts` subjects, in an order and of lengths drawn anew
    for each document. A paragraph states its fact by saying one of the subject's `values` words
    `mentions` times, anywhere in it; all else is filler, common words and `names` invented names.
    Documents are 3/4 to 4/4 of `max_len` bytes long.

    What a short look gives is drawn apart from the label. Every document alone has the same
    distribution in both classes, its length too. The share of names that a pair has in common is
    uniform on [0, 1], whatever the label, and outweighs one fact in any count of shared words.
    And the fact that differs may stand anywhere in either document: whoever compares the facts of
    the first halves is right in two thirds of all cases, of the whole in all.

    What solves it is to know which words are facts, and to have read all of them. No range beyond a
    word is needed to recognise one, as in the exam this stands in for.

    Item i of a split is a function of `seed`, the split and i: nothing is stored, every process
    and machine draws the same bytes, and each pair of items 2j, 2j + 1 holds one match.
    """

    vocab_size = BYTE_VOCABULARY
    num_classes = 2
    documents = 2
    standard_len = 4000
    symbols = tuple(f"0x{b:02x}" for b in range(256))
    local_rules = ("majority", "length_and_histogram", "tfidf_cosine")

    def __init__(
        self,
        name: str = "retrieval_synth",
        max_len: int = 4000,
        sizes: tuple[int, int, int] = SIZES,
        facts: int = DIFFICULTY["facts"],
        values: int = DIFFICULTY["values"],
        mentions: int = DIFFICULTY["mentions"],
        names: int = DIFFICULTY["names"],
        seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if len(sizes) != 3 or any(not isinstance(n, int) or n < 1 for n in sizes):
            raise DataError(f"task.sizes: {list(sizes)} is not three positive numbers (train, valid, test)")
        for field, value, low, high in (
            ("facts", facts, 1, len(SUBJECTS)),
            ("values", values, 2, min(map(len, SUBJECTS))),
            ("mentions", mentions, 1, 1_000),
            ("names", names, 1, 1_000),
            ("seed", seed, 0, 2**63 - 1),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise DataError(f"task.{field}: {value!r} is not a whole number from {low} to {high}")
        self.shortest = max_len - max_len // 4
        needed = facts * mentions * LONGEST
        if needed > self.shortest:
            raise DataError(
                f"task.max_len: {max_len} leaves no room for {facts} facts stated {mentions} times;"
                f" at least {-(-4 * needed // 3)} is needed"
            )
        self.sizes, self.seed = tuple(sizes), seed
        self.difficulty = {"facts": facts, "values": values, "mentions": mentions, "names": names}

    @property
    def row(self) -> str:
        """The name and, where they are not the exam's own, length and facts x values x mentions."""
        if self.difficulty == DIFFICULTY:
            return super().row
        return f"{super().row}-" + "x".join(str(self.difficulty[k]) for k in ("facts", "values", "mentions"))

    def load(self) -> Mapping[str, Split]:
        from lra.tasks.stream import seeded

        bases = {name: seeded(self.seed, i)[0] for i, name in enumerate(SPLITS)}
        return {
            name: Pairs(base, count, self.shortest, self.max_len, **self.difficulty)
            for (name, base), count in zip(bases.items(), self.sizes, strict=True)
        }

    def identity(self) -> Any:
        return {"generator": VERSION, "sizes": self.sizes, "seed": self.seed, **self.difficulty}

    def notes(self) -> dict[str, Any]:
        return dict(self.difficulty)

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`."""
        return {
            "source": "generated here, item by item",
            "found": True,
            "bytes": 0,
            "licence": "Apache-2.0 (generator)",
            "how": "nothing is stored",
        }

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.floors.pairs import byte_ngram_cosine, length_and_histogram, tfidf_cosine, word_agreement

        return {
            "length_and_histogram": length_and_histogram,
            "tfidf_cosine": tfidf_cosine,
            "byte_ngram_cosine": byte_ngram_cosine,
            "word_agreement": word_agreement,
        }


class Pairs:
    """A Split whose items are drawn when they are asked for. labels (N,), lengths (N,)."""

    truncated = 0

    def __init__(self, base: np.uint64, count: int, shortest: int, longest: int, **difficulty: int) -> None:
        from lra.tasks.retrieval_synth.generator import headers

        self.base, self.shortest, self.longest, self.difficulty = base, shortest, longest, difficulty
        self.labels, both = headers(base, count, shortest, longest)
        self.lengths = both.max(axis=1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        from lra.tasks.retrieval_synth.generator import draw

        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        documents = draw(self.base, index, self.shortest, self.longest, **self.difficulty)
        return Example(tuple(d.astype(np.int64) + 1 for d in documents), int(self.labels[index]))
