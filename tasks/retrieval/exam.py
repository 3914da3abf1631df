"""Retrieval: does one paper cite the other? Two documents read byte by byte (AAN; LRA 2.2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lra.tasks import store
from lra.tasks.base import BYTE_VOCABULARY, SPLITS, DataError, Ragged, Split, Task, digest
from lra.tasks.retrieval.pairs import RELEASE, VERSION, FileBytes, find, index
from lra.tasks.sampling import check_count, few

OF_SPLIT = {"sha256": str} | dict.fromkeys(("pairs", "positives", "bytes_literals", "empty_documents"), int)
FACTS = {"splits": dict.fromkeys(SPLITS, OF_SPLIT)} | dict.fromkeys(
    ("pairs_in_two_splits", "test_papers", "test_papers_also_in_train"), int
)


class Retrieval(Task):
    """Pairs of papers and whether a citation links them: label, id1, id2, text1, text2 in the
    release's `new_aan_pairs.*.tsv`, without header or quoting (spec 1.5).

    Tokens are byte + 1; each document keeps its first `max_len` bytes. The release writes a text
    as a Python bytes literal, `b'...'` with escapes, and the official pipeline reads these very
    characters, prefix, quotes and backslashes included: so does `decode=False`, the exam.
    `decode=True` reads the bytes that a literal stands for; it shows in `row`. The official cut
    to 10,000 bytes before the cut to 4,000 changes nothing and is not made. All pairs are scored;
    the official code drops those of the last, partial batch.

    path: the folder with the three files, or one above it (`tsv_data`, the release, doubled or
    not), or an archive of them (`tsv_data.tar.xz`); None: `home` in the data folder. Read once, as
    a stream, into a store in the data folder, and from there an item at a time: memory does not
    grow with the file.
    pairs: how many the exam has in train, valid and test; other data show in `row` once read,
    None for data of any size. eval_items: valid and test are cut to that many, stratified and
    chosen by content; shows in `row`.

    An empty text is read as one space, so that every document has a position; `notes` counts them.
    """

    vocab_size = BYTE_VOCABULARY
    num_classes = 2
    documents = 2
    standard_len = 4000
    symbols = tuple(f"0x{b:02x}" for b in range(256))
    local_rules = ("majority", "length_and_histogram", "tfidf_cosine")

    def __init__(
        self,
        name: str = "retrieval",
        max_len: int = 4000,
        path: str | None = None,
        home: str = "lra_release",
        decode: bool = False,
        pairs: tuple[int, int, int] | None = RELEASE,
        eval_items: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if not isinstance(decode, bool):
            raise DataError(f"task.decode: {decode!r} is not true or false")
        if pairs is not None and (len(pairs) != 3 or any(not isinstance(n, int) for n in pairs)):
            raise DataError(f"task.pairs: {list(pairs)} is not three numbers (train, valid, test), nor null for any")
        check_count("task.eval_items", eval_items)
        self.path, self.home, self.decode = path, home, decode
        self.pairs, self.eval_items = tuple(pairs) if pairs is not None else None, eval_items
        self._facts: dict[str, Any] | None = None

    @property
    def row(self) -> str:
        """The name and what departs from the exam; other data than its own show once read."""
        departures = [super().row]
        counts = tuple(self._facts["splits"][s]["pairs"] for s in SPLITS) if self._facts else self.pairs
        if self.pairs is not None and counts != self.pairs:
            departures.append("+".join(map(str, counts)) + "pairs")
        if self.decode:
            departures.append("decoded")
        if self.eval_items is not None and (counts is None or self.eval_items < counts[2]):
            departures.append(f"test{self.eval_items}")
        return "-".join(departures)

    @property
    def root(self) -> Path:
        """Where the pairs are looked for."""
        return store.path(self.path) if self.path is not None else store.data_dir(self.data_dir) / self.home

    def load(self) -> Mapping[str, Split]:
        source = find(self.root, "task.path" if self.path is not None else f"task={self.name}", self.instead())
        keep = max(self.max_len, self.standard_len) + 1  # one more, so that a cut can be told
        stamps = [
            (str(f.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns) for f, found in source.stats()
        ]
        folder = store.data_dir(self.data_dir) / f"pairs-{digest([VERSION, keep, self.decode, stamps])}"
        store.ensure(folder, lambda draft: index(source, draft, keep, self.decode))
        self._facts = store.facts(folder, FACTS)
        splits: dict[str, Split] = {}
        for name in SPLITS:
            offsets, labels, keys = (store.array(folder, f"{name}.{part}") for part in ("offsets", "labels", "keys"))
            whole = Ragged(FileBytes(folder / f"{name}.bin"), offsets, labels, self.max_len, documents=2, shift=1)
            splits[name] = whole if name == "train" else few(whole, keys, self.eval_items)
        return splits

    def identity(self) -> Any:
        """What the files hold, wherever they lie, and how it is read."""
        self.split("test")
        contents = {name: facts["sha256"] for name, facts in self._facts["splits"].items()}
        return {"contents": contents, "decode": self.decode, "eval_items": self.eval_items}

    def notes(self) -> dict[str, Any]:
        """Counts; pairs that stand in two splits (in either order, by content); papers of test that
        train holds too; how the texts are written and read."""
        self.split("test")
        splits = self._facts["splits"]
        return {
            "pairs": {name: splits[name]["pairs"] for name in SPLITS},
            "positives": {name: splits[name]["positives"] for name in SPLITS},
            "pairs_in_two_splits": self._facts["pairs_in_two_splits"],
            "test_papers": self._facts["test_papers"],
            "test_papers_also_in_train": self._facts["test_papers_also_in_train"],
            "bytes_literals": sum(s["bytes_literals"] for s in splits.values()),
            "read_as": "decoded literals" if self.decode else "the characters of the file",
            "empty_documents": sum(s["empty_documents"] for s in splits.values()),
        }

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`. Reads no data."""
        try:
            found: Path | None = find(self.root, "", "").root
        except DataError:
            found = None
        return {
            "source": f"new_aan_pairs.*.tsv in {self.root}",
            "found": found,
            "licence": "the papers' own: CC BY-NC-SA 3.0 before 2016, CC BY 4.0 since",
            "how": self.instead(),
        }

    def instead(self) -> str:
        """What to do without the data."""
        if self.home == "lra_release":
            return (
                "fetch them with python -m lra.data fetch lra_release --only retrieval, give a copy with"
                " task.path=FOLDER, or take task=retrieval_synth, which needs no files"
            )
        return f"give them with task.path=FOLDER or put them in {self.home} in data_dir"

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.floors.pairs import length_and_histogram, tfidf_cosine

        return {"length_and_histogram": length_and_histogram, "tfidf_cosine": tfidf_cosine}
