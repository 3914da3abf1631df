"""The Task contract: Example, Split, Batch, padding, byte tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SPLITS = ("train", "valid", "test")
BYTE_VOCABULARY = 257  # a byte b is token b + 1; 0 pads (spec 1.4)


class DataError(ValueError):
    """Something about the user's data; the message is one line that says what to do."""


class Example(NamedTuple):
    """One item: `documents` integer arrays (L_i,) without padding, and the class; or, of an exam with answers at
    positions, the class at each position (L_i,), NOT_ASKED where none is asked."""

    documents: tuple[np.ndarray, ...]
    label: int | np.ndarray


NOT_ASKED = -100  # a label where an exam with answers at positions asks for nothing


class Batch(NamedTuple):
    """tokens int64 (B, L) or (B, 2, L); mask bool, same shape, True on real tokens; labels int64 (B,), or
    (B, L) with NOT_ASKED where nothing is asked."""

    tokens: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def asked(self) -> int:
        """How many answers are asked for."""
        return len(self.labels) if self.labels.dim() == 1 else int((self.labels != NOT_ASKED).sum())

    def to(self, device: torch.device) -> Batch:
        return Batch(*(t.to(device, non_blocking=True) for t in self))


class Answers(NamedTuple):
    """What a model answered to a batch, one entry an answer asked for: predicted class, right class, loss, and
    to which item of the batch it belongs."""

    predictions: Tensor
    labels: Tensor
    losses: Tensor
    items: Tensor


class Split(Protocol):
    """A sequence of Example. `labels` (N,) and `lengths` (N,), the longest document of each item
    in tokens, are known without reading the items.

    A split to train on may be `endless`: it then has more items than any run takes, each as good as the next, and
    no labels before they are read. One with answers at positions has labels (N, L)."""

    labels: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


def counted(split: Split) -> int | None:
    """Items of a split; null where it is endless."""
    return None if getattr(split, "endless", False) else len(split)


class Ragged:
    """A Split over flat arrays, in memory or memory-mapped.

    tokens (T,) of any unsigned integer type holds all documents one after the other; offsets
    (N x documents + 1,) bounds them; labels (N,). `shift` is added to every token on reading, so
    that bytes can be stored as they are. Documents are cut to their first `max_len` tokens.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        offsets: np.ndarray,
        labels: np.ndarray,
        max_len: int,
        documents: int = 1,
        shift: int = 0,
    ) -> None:
        # A slice of a memmap, were it left one, is made ten times slower than that of a plain array.
        plain = (np.asarray(part) if isinstance(part, np.memmap) else part for part in (tokens, offsets, labels))
        self.tokens, self.offsets, self.labels = plain
        self.max_len, self.documents, self.shift = max_len, documents, shift
        whole = np.diff(offsets).reshape(-1, documents)
        self.lengths = np.minimum(whole, max_len).max(axis=1, initial=0)
        self.truncated = int((whole > max_len).any(axis=1).sum())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        documents = []
        for i in range(index * self.documents, (index + 1) * self.documents):
            start, end = int(self.offsets[i]), int(self.offsets[i + 1])
            raw = self.tokens[start : min(end, start + self.max_len)]
            documents.append(raw.astype(np.int64) + self.shift)
        return Example(tuple(documents), int(self.labels[index]))


class Subset:
    """Some items of a Split, by index, in the order given."""

    def __init__(self, split: Split, indices: np.ndarray) -> None:
        self.split, self.indices = split, np.asarray(indices)
        self.labels, self.lengths = split.labels[self.indices], split.lengths[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.split[int(self.indices[index])]


def collate(examples: Sequence[Example], length: int | None = None, multiple: int = 1) -> Batch:
    """Pad to the longest of the batch, rounded up to `multiple`, or to `length` if given.

    The mask marks real positions whatever their token: nothing is inferred from token 0.
    """
    count = len(examples[0].documents)
    longest = max(len(d) for e in examples for d in e.documents)
    if length is None:
        length = max(multiple, -(-longest // multiple) * multiple)
    tokens = np.zeros((len(examples), count, length), np.int64)
    mask = np.zeros(tokens.shape, bool)
    for row, example in enumerate(examples):
        for column, document in enumerate(example.documents):
            tokens[row, column, : len(document)] = document
            mask[row, column, : len(document)] = True
    if count == 1:
        tokens, mask = tokens[:, 0], mask[:, 0]
    return Batch(torch.from_numpy(tokens), torch.from_numpy(mask), _labels(examples, length))


def _labels(examples: Sequence[Example], length: int) -> Tensor:
    """(B,) classes, or (B, L) with NOT_ASKED in the padding."""
    if not isinstance(examples[0].label, np.ndarray):
        return torch.tensor([e.label for e in examples])
    labels = np.full((len(examples), length), NOT_ASKED, np.int64)
    for row, example in enumerate(examples):
        labels[row, : len(example.label)] = example.label
    return torch.from_numpy(labels)


def digest(identity: Any) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Task:
    """What all tasks share. A subclass sets the class attributes and implements `load`, `identity`.

    name: the config's name. max_len: L in tokens. data_dir: where generated and indexed data are
    kept (see `lra.tasks.store.data_dir`). pad_to: "longest" of the batch or "max".
    """

    vocab_size: int
    num_classes: int
    documents: int = 1
    answers: str = "sequence"  # or classes at the positions that ask for one: "token", "middle", "last"
    standard_len: int  # the exam's own length; another one shows in `row`
    symbols: Sequence[str]  # what ids 1, 2, ... stand for
    kinds: Sequence[str] = ()  # of answers, that are reported apart
    test_len: Sequence[int] = ()  # lengths of twins (`twin(length)`) that a model is tested at too
    grid: tuple[int, int] | None = None  # rows and columns of an image, whose tokens are its pixels row by row
    aux: str | None = None  # what a model is to tell besides, behind its answers, in numbers that `loss` alone reads
    local_rules: Sequence[str] = ("majority",)  # of all rules, those blind to long-range structure

    def __init__(
        self,
        name: str,
        max_len: int,
        data_dir: str | Path | None = None,
        pad_to: str = "longest",
        pad_multiple: int = 1,
    ) -> None:
        if not isinstance(max_len, int) or max_len < 1:
            raise DataError(f"task.max_len: {max_len!r} is not a positive number of tokens")
        if pad_to not in ("longest", "max"):
            raise DataError(f"task.pad_to: {pad_to!r} is not one of longest, max")
        self.name, self.max_len = name, max_len
        self.data_dir, self.pad_to, self.pad_multiple = data_dir, pad_to, pad_multiple
        self._splits: dict[str, Split] | None = None

    @property
    def row(self) -> str:
        """Name for tables: the name, and the length where it is not the exam's own."""
        return self.name if self.max_len == self.standard_len else f"{self.name}-{self.max_len}"

    @property
    def vocabulary(self) -> str:
        """Digest of the token table."""
        return digest(list(self.symbols))

    def load(self) -> Mapping[str, Split]:
        """All three splits, generated, fetched or read. Raises DataError."""
        raise NotImplementedError

    def identity(self) -> Any:
        """JSON-able description from which two equal data sets get equal digests."""
        raise NotImplementedError

    def split(self, name: str) -> Split:
        if name not in SPLITS:
            raise DataError(f"split: {name!r} is not one of {', '.join(SPLITS)}")
        if self._splits is None:
            try:
                self._splits = dict(self.load())
            except OSError as error:  # a path too long, a folder that may not be entered
                what = f"{str(error.filename)[:100]}: " if error.filename else ""
                raise DataError(f"task={self.name}: {what}{error.strerror or error}") from error
        return self._splits[name]

    def fingerprint(self) -> str:
        return digest([type(self).__name__, self.max_len, self.vocabulary, self.identity()])

    def collate(self, examples: Sequence[Example]) -> Batch:
        return collate(examples, self.max_len if self.pad_to == "max" else None, self.pad_multiple)

    def loss(self, output: Tensor, batch: Batch, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the answers asked for, in float32 at least: output (B, C) or, where answers stand at
        positions, (B, L, C)."""
        output, labels = self._flat(output, batch)
        output = output if output.dtype == torch.float64 else output.float()
        return F.cross_entropy(output, labels, ignore_index=NOT_ASKED, label_smoothing=label_smoothing)

    def scores(self, output: Tensor, batch: Batch) -> Answers:
        """What the model answered; output as for `loss`."""
        output, labels = self._flat(output, batch)
        losses = F.cross_entropy(output.float(), labels, ignore_index=NOT_ASKED, reduction="none")
        items = torch.arange(len(batch.labels), device=labels.device)
        if batch.labels.dim() == 2:
            items = items.repeat_interleave(batch.labels.shape[1])
        answers = Answers(output.argmax(-1), labels, losses, items)
        return answers if batch.labels.dim() == 1 else Answers(*(each[labels != NOT_ASKED] for each in answers))

    def noted(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of answers what a record keeps besides right and wrong: numbers by name, (n,) each, whose mean is taken."""
        return {}

    def of_answers(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        """The same of all answers (n,) together, of a model or of a rule."""
        return {}

    def _flat(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return (output, batch.labels) if batch.labels.dim() == 1 else (output.flatten(0, 1), batch.labels.flatten())

    def synthetic(self, size: int, device: torch.device | None = None) -> Batch:
        """A batch of full length with random tokens and labels, whose cost is that of a real one of full length."""
        shape = (size, self.max_len) if self.documents == 1 else (size, self.documents, self.max_len)
        tokens = torch.randint(1, self.vocab_size, shape, device=device)
        asked = (size,) if self.answers == "sequence" else (size, self.max_len)
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        return Batch(tokens, mask, torch.randint(self.num_classes, asked, device=device))

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        """Floors: name -> rule(train, test) -> predicted classes (N,)."""
        return {"majority": majority}

    def learned_rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        """Floors and ceilings that have to be fitted, minutes each: same signature as `rules`."""
        return {}

    def levels(self, split: str) -> tuple[float, float] | None:
        """Accuracy of the best local rule and of the best possible one on a split, where both are known and differ."""
        return None

    def asked_kinds(self, split: str) -> np.ndarray | None:
        """Of each answer on valid or test, in their order, which of `kinds` it is reported under; null: of one."""
        return None

    def notes(self) -> dict[str, Any]:
        """What a reader of the score should know of the data at hand, as short JSON-able facts."""
        return {}


def majority(train: Split, test: Split) -> np.ndarray:
    """The most frequent class of train, whatever the input."""
    return np.full(len(test), np.bincount(train.labels).argmax())
