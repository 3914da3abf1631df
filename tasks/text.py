"""Text: the sentiment, 0 or 1, of a film review read byte by byte (Maas et al. 2011; LRA 2.2.2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lra.tasks import files, hub, parquet, store
from lra.tasks.base import BYTE_VOCABULARY, DataError, Ragged, Split, Subset, Task
from lra.tasks.sampling import check_classes, check_count, content_keys, few, stratified, under_two_labels

if TYPE_CHECKING:
    import pyarrow as pa


HUB = "stanfordnlp/imdb"
ROWS = {"train": 25_000, "test": 25_000}
VALIDATIONS = ("held_out", "test")
LONGEST = 1 << 20  # bytes of a review's file; the longest has 14 thousand
HELD_OUT = 0.1  # of train
REVIEW_FILE = re.compile(r"(\d+)_\d+\.txt")
TAR_BLOCK = 128  # the archive, and so the hub, holds ids 127..0, 255..128, ...


class Reviews(NamedTuple):
    """texts: uint8 (T,), all reviews one after the other; offsets int64 (N + 1,); labels (N,)."""

    texts: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def keys(self, seed: int = 0) -> np.ndarray:
        """`content_keys` of whole reviews, whatever length is read of them."""
        return content_keys((self.texts[a:b] for a, b in zip(self.offsets, self.offsets[1:], strict=False)), seed)


class Text(Task):
    """IMDB reviews as UTF-8 bytes: token = byte + 1, 0 pads, no other symbol, HTML kept, nothing
    cleaned; a long review keeps its beginning (spec 1.4).

    The exam's length is 4,096. The official code's default is 1,000 and the paper took the best of
    1K to 4K; later work mostly reads 4K. Another length shows in `row`.

    Sources, in this order: `path` (a folder with the hub's parquet files, or an unpacked aclImdb),
    the hub's `hub`, an aclImdb in the data folder.

    validation: "held_out" takes 10 % of train, stratified and chosen by a hash of content and
    `split_seed`, so that it depends on nothing else and equal reviews stay on one side; "test" is
    the official protocol, which trains on all 25,000 and selects on the test set, and shows in `row`.
    eval_items: valid and test are cut to that many, stratified and seeded likewise; shows in `row`.
    """

    vocab_size = BYTE_VOCABULARY
    num_classes = 2
    standard_len = 4096
    symbols = tuple(f"0x{b:02x}" for b in range(256))
    local_rules = ("majority", "byte_histogram", "byte_ngrams")

    def __init__(
        self,
        name: str = "text",
        max_len: int = 4096,
        path: str | None = None,
        hub: str = HUB,
        validation: str = "held_out",
        split_seed: int = 0,
        eval_items: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if validation not in VALIDATIONS:
            raise DataError(f"task.validation: {validation!r} is not one of {', '.join(VALIDATIONS)}")
        check_count("task.eval_items", eval_items)
        self.path, self.hub, self.validation = path, hub, validation
        self.split_seed, self.eval_items = split_seed, eval_items
        self._rows = dict(ROWS)
        self._contents: dict[str, str] = {}
        self._notes: dict[str, Any] = {}

    @property
    def row(self) -> str:
        """The name and what departs from the exam; other data than the 25,000 + 25,000 show once read."""
        departures = [super().row]
        if self.validation == "test":
            departures.append("valid=test")
        if self._rows != ROWS:
            departures.append(f"{self._rows['train']}+{self._rows['test']}rows")
        if self.eval_items is not None and self.eval_items < self._rows["test"]:
            departures.append(f"test{self.eval_items}")
        return "-".join(departures)

    def load(self) -> Mapping[str, Split]:
        reviews, source = self._read()
        train, test = reviews["train"], reviews["test"]
        check_classes(train.labels, f"{self.path or self.hub}, train")
        self._rows = {name: len(r.labels) for name, r in reviews.items()}
        self._contents = {name: content_digest(r) for name, r in reviews.items()}
        train_keys, test_keys = train.keys(self.split_seed), test.keys(self.split_seed)
        whole = {name: Ragged(r.texts, r.offsets, r.labels, self.max_len, shift=1) for name, r in reviews.items()}
        exam = few(whole["test"], test_keys, self.eval_items)
        self._notes = {
            "source": source,
            "train_texts_also_in_test": int(np.isin(train_keys, test_keys).sum()),
            "train_texts_under_two_labels": under_two_labels(train_keys, train.labels),
            "train_texts_repeated": len(train_keys) - len(np.unique(train_keys)),
            "test_texts_cut": whole["test"].truncated,
            "test_items": len(exam),
        }
        if self.validation == "test":
            return {"train": whole["train"], "valid": exam, "test": exam}
        held = stratified(train.labels, train_keys, round(HELD_OUT * len(train.labels)))
        if not len(held):
            raise DataError(
                f"{self.path or self.hub}: {len(train.labels)} training reviews are too few to hold 10 % out"
            )
        kept = np.setdiff1d(np.arange(len(train.labels)), held)
        valid = few(Subset(whole["train"], held), train_keys[held], self.eval_items)
        return {"train": Subset(whole["train"], kept), "valid": valid, "test": exam}

    def identity(self) -> Any:
        """Texts and labels in their order, and how they are split: the same whatever the source."""
        self.split("train")
        return {
            "contents": self._contents,
            "validation": self.validation,
            "split_seed": self.split_seed,
            "eval_items": self.eval_items,
        }

    def notes(self) -> dict[str, Any]:
        """source; reviews of train that test holds too (123 in the original); how many were cut."""
        self.split("train")
        return dict(self._notes)

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`. Reads no data."""
        unpacked = store.data_dir(self.data_dir) / "aclImdb"
        found = store.path(self.path) if self.path is not None else hub.cached(self.hub) or unpacked
        return {
            "source": f"hub: {self.hub}" if self.path is None else "local files",
            "found": found if found.exists() else None,
            "licence": "none stated; cite Maas et al. 2011",
            "how": f"python -m lra.data prepare task={self.name} fetches 84 MB, {hub.INSTEAD}",
        }

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        from lra.tasks.floors.learned import byte_histogram, byte_ngrams

        return {"byte_histogram": byte_histogram, "byte_ngrams": byte_ngrams}

    def _read(self) -> tuple[dict[str, Reviews], str]:
        unpacked = store.data_dir(self.data_dir) / "aclImdb"
        if self.path is not None:
            return read_folder(store.path(self.path)), "local files"
        try:
            tables = hub.fetch(self.hub)
        except hub.Unreachable:
            # Another data set than the exam's own is not what lies there.
            if self.hub != HUB or not unpacked.is_dir():
                raise
            return read_unpacked(unpacked), "local files"
        return from_tables(tables, self.hub), f"hub: {self.hub}"


class Text1024(Text):
    """The same of 1,024 bytes, which is this exam's length."""

    standard_len = 1024


def content_digest(reviews: Reviews) -> str:
    """16 hex digits of texts, lengths and labels in their order."""
    whole = hashlib.sha256(reviews.texts)
    whole.update(np.diff(reviews.offsets).astype("<i8").tobytes())
    whole.update(reviews.labels.astype("<i8").tobytes())
    return whole.hexdigest()[:16]


def read_folder(folder: Path) -> dict[str, Reviews]:
    """Reviews of a folder of either layout. Raises DataError."""
    for root in (folder, folder / "aclImdb"):
        if (root / "train" / "pos").is_dir() or (root / "test" / "pos").is_dir():
            return read_unpacked(root)
    if not folder.is_dir():
        raise DataError(f"task.path: {folder} is not a folder")
    if not any(folder.rglob("*.parquet")):
        raise DataError(f"task.path: {folder} holds neither train*.parquet and test*.parquet nor train/pos/*.txt")
    return from_tables(parquet.read(folder), str(folder))


def from_tables(tables: Mapping[str, pa.Table], where: str) -> dict[str, Reviews]:
    """Columns `text` (string) and `label` (0 negative, 1 positive). Raises DataError."""
    import pyarrow as pa

    reviews = {}
    for split, table in tables.items():
        at = f"{where}, {split}"
        parquet.require_columns(table, ("text", "label"), at)
        column = table["text"]
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise DataError(f"{at}: text is {column.type}, string is needed")
        labels = parquet.labels(table, Text.num_classes, at)
        texts = pa.concat_arrays(column.cast(pa.large_string()).chunks)
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        flat = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
        reviews[split] = checked(Reviews(flat, bounds - bounds[0], labels), at)
    return reviews


def read_unpacked(root: Path) -> dict[str, Reviews]:
    """An unpacked aclImdb: {train,test}/{neg,pos}/ID_RATING.txt, in the order of the hub.

    That order, which the archive's is, was checked on 19,871 reviews whose file is known.
    """
    return {split: _read_reviews(root / split) for split in ROWS}


def _read_reviews(folder: Path) -> Reviews:
    texts, labels = [], []
    for label, sentiment in enumerate(("neg", "pos")):
        try:
            found = [f for f in (folder / sentiment).iterdir() if f.suffix == ".txt"]
            for file in sorted(found, key=_archive_order):
                texts.append(files.whole(file, LONGEST))
                labels.append(label)
        except OSError as error:
            raise DataError(parquet.unreadable(Path(error.filename or folder), error)) from error
        if not found:
            raise DataError(f"task.path: {folder / sentiment} holds no reviews (ID_RATING.txt)")
    offsets = np.cumsum([0, *map(len, texts)])
    return checked(Reviews(np.frombuffer(b"".join(texts), np.uint8), offsets, np.array(labels)), str(folder))


def _archive_order(file: Path) -> tuple[int, int]:
    match = REVIEW_FILE.fullmatch(file.name)
    if not match:
        raise DataError(f"task.path: {file} is not the name of a review, ID_RATING.txt")
    number = int(match[1])
    return number // TAR_BLOCK, -number


def checked(reviews: Reviews, where: str) -> Reviews:
    """The reviews, or DataError for one without text, which no mask could show to a model."""
    empty = np.flatnonzero(np.diff(reviews.offsets) == 0)
    if len(empty):
        raise DataError(f"{where}, row {empty[0]}: the review is empty")
    return reviews
