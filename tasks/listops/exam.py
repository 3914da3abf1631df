"""ListOps: the value, 0 to 9, of a nested prefix expression (Nangia & Bowman 2018; LRA 2.2.1).

Generated here from a seed, or read from the official release's TSV files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import count
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np

from lra.tasks import files, store
from lra.tasks.base import SPLITS, DataError, Ragged, Split, Task, digest, majority
from lra.tasks.sampling import check_classes

SYMBOLS = ("[MIN", "[MAX", "[MED", "[SM", *"0123456789", "X")  # X: "]", as in the official code
IDS = {symbol: i for i, symbol in enumerate(SYMBOLS, start=1)} | {"]": len(SYMBOLS)}
FILES = {"train": "basic_train.tsv", "valid": "basic_val.tsv", "test": "basic_test.tsv"}
INDEX = 1  # of what a store of files holds; raise it when that changes
FACTS = {"content": str}
SHARD = 1_000  # trees drawn from one seed; part of what the seed means


class ListOps(Task):
    """The official exam: 96,000 / 2,000 / 2,000 distinct expressions of 501 to 1,999 tokens.

    path: a folder with `basic_{train,val,test}.tsv`, directly, in `listops-1000` or in the
    release's doubled folder; None generates. `sizes`, `min_length`, `max_depth`, `max_args` and
    `seed` shape generated data only; expressions are longer than `min_length` and shorter than
    `max_len`, so nothing is ever cut. A row of a file that is longer than `max_len` is cut as in
    the official code, which destroys its answer.

    The vocabulary is a fixed table: no id depends on the process, and a token that is not in it
    is an error, not "unknown".
    """

    vocab_size = len(SYMBOLS) + 1
    num_classes = 10
    standard_len = 2000
    symbols = SYMBOLS
    local_rules = ("majority", "first_operator")  # depth_k reads the whole of the outer levels

    def __init__(
        self,
        name: str = "listops",
        max_len: int = 2000,
        path: str | None = None,
        sizes: tuple[int, int, int] = (96_000, 2_000, 2_000),
        min_length: int = 500,
        max_depth: int = 10,
        max_args: int = 10,
        seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(name, max_len, **common)
        if len(sizes) != 3 or any(not isinstance(n, int) or n < 1 for n in sizes):
            raise DataError(f"task.sizes: {list(sizes)} is not three positive numbers (train, valid, test)")
        for field, value, low, high in (
            ("max_depth", max_depth, 2, 60),
            ("max_args", max_args, 2, 100),
            ("min_length", min_length, 0, max_len - 3),
            ("seed", seed, 0, 2**63 - 1),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise DataError(f"task.{field}: {value!r} is not a whole number from {low} to {high}")
        self.path, self.sizes = path, tuple(sizes)
        self.min_length, self.max_depth, self.max_args, self.seed = min_length, max_depth, max_args, seed

    def identity(self) -> Any:
        if self.path is not None:
            self.split("train")
            return {"content": store.facts(self.place(), FACTS)["content"]}
        from lra.tasks.listops.generator import VERSION

        return {
            "generator": VERSION,
            "sizes": self.sizes,
            "lengths": [self.min_length, self.max_len],
            "max_depth": self.max_depth,
            "max_args": self.max_args,
            "seed": self.seed,
        }

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for `lra.data list`."""
        where = self.place() if self.path is None else self.find()["train"].parent
        return {
            "source": "generated here" if self.path is None else "release files",
            "found": where if where.exists() else None,
            "licence": "Apache-2.0 (generator)",
            "how": "python -m lra.data prepare task=listops",
        }

    @cached_property
    def state(self) -> str:
        """Digest of the files as they stand, which may differ where what is read of them does not."""
        return content_hash(self.find())

    def place(self) -> Path:
        """Where the arrays are, or will be, below the data folder."""
        what = self.identity() if self.path is None else ["release", INDEX, self.state]
        return store.data_dir(self.data_dir) / f"listops-{digest(what)}"

    def load(self) -> Mapping[str, Split]:
        if self.path is None:
            build = self.generate
        else:
            found = self.find()

            def build(draft: Path) -> dict[str, Any]:
                return write(draft, index(found))

        folder = store.ensure(self.place(), build)
        tokens, offsets, labels, sizes = (store.array(folder, n) for n in ("tokens", "offsets", "labels", "sizes"))
        starts = np.concatenate(([0], np.cumsum(sizes)))
        return {
            name: Ragged(tokens, offsets[a : b + 1], labels[a:b], self.max_len)
            for name, a, b in zip(SPLITS, starts[:-1], starts[1:], strict=True)
        }

    def generate(self, draft: Path) -> dict[str, Any]:
        """Draw shard after shard, drop repetitions in shard order, cut into the three splits.

        A shard depends on the seed and its number only, so the number of threads changes nothing.
        """
        wanted, seen, kept = sum(self.sizes), set(), []
        for shard, (tokens, lengths, labels) in enumerate(self.shards()):
            ends = np.cumsum(lengths)
            for start, end, label in zip(ends - lengths, ends, labels, strict=True):
                tree = tokens[start:end]
                key = hashlib.blake2b(tree, digest_size=16).digest()
                if key not in seen:
                    seen.add(key)
                    kept.append((tree, label))
            if len(kept) >= wanted:
                break
            if len(kept) < shard * SHARD // 100:
                raise DataError(
                    f"task.sizes: {wanted} distinct expressions of {self.min_length + 1} to {self.max_len - 1}"
                    f" tokens are not to be had; {len(kept)} came out of {(shard + 1) * SHARD}"
                )
        return write(draft, (kept[:wanted], self.sizes))

    def shards(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        from lra.tasks.listops.generator import draw_many
        from lra.tasks.stream import seeded

        def one(shard: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return draw_many(
                seeded(self.seed, shard), SHARD, self.min_length, self.max_len, self.max_depth, self.max_args
            )

        workers = cpu_count() or 1
        pool = ThreadPoolExecutor(workers)
        try:
            for first in count(0, 2 * workers):
                yield from pool.map(one, range(first, first + 2 * workers))
        finally:  # which nobody waits for: what was begun beyond what is needed is not
            pool.shutdown(wait=False, cancel_futures=True)

    def find(self) -> dict[str, Path]:
        """The three TSV files below `path`."""
        root = store.path(str(self.path))
        nested = ("", "listops-1000", "lra_release/listops-1000", "lra_release/lra_release/listops-1000")
        held = {f: [file for file in FILES.values() if (f / file).is_file()] for f in (root / n for n in nested)}
        for folder, present in sorted(held.items(), key=lambda item: -len(item[1])):
            if len(present) == len(FILES):
                return {split: folder / file for split, file in FILES.items()}
            if present:
                missing = ", ".join(file for file in FILES.values() if file not in present)
                raise DataError(f"task.path: {folder} holds no {missing}")
        if not root.is_dir():
            raise DataError(f"task.path: {root} is not a folder")
        raise DataError(f"task.path: {root} holds no {', '.join(FILES.values())}, nor does a listops-1000 folder in it")

    def rules(self) -> dict[str, Callable[[Split, Split], np.ndarray]]:
        return {
            "majority": majority,
            "first_operator": first_operator,
            **{f"depth_{k}": truncated_at(k) for k in (1, 2, 3)},
        }


def content_hash(found: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for split in SPLITS:
        try:
            with files.opened(found[split]) as handle:
                whole.update(hashlib.file_digest(handle, "sha256").digest())
        except OSError as error:
            raise DataError(f"task.path: {found[split]} cannot be read ({error.strerror})") from error
    return whole.hexdigest()[:16]


def tokenize(source: str) -> np.ndarray:
    """Official preprocessing: drop the parentheses, one id an operator, digit or closing bracket.

    Raises KeyError for any other token.
    """
    plain = source.replace("(", " ").replace(")", " ")
    return np.fromiter((IDS[t] for t in plain.split()), np.uint8)


def read(file: Path) -> Iterator[tuple[np.ndarray, int]]:
    """(tokens, target) of each row of an official TSV. DataError names the line."""
    from lra.tasks.listops.generator import evaluate

    nothing = np.zeros(len(SYMBOLS), np.int64)
    lines = files.lines(file)
    if next(lines, (1, ""))[1].split("\t") != ["Source", "Target"]:
        raise DataError(f"{file}:1: the header is not Source<TAB>Target")
    for number, line in lines:
        source, tab, target = line.partition("\t")
        if not tab or target not in IDS or not target.isdigit():
            raise DataError(f"{file}:{number}: not an expression, a tab and a target from 0 to 9")
        try:
            tokens = tokenize(source)
        except KeyError as error:
            raise DataError(f"{file}:{number}: {files.shown(error.args[0])} is not a ListOps token") from error
        value = evaluate(tokens, 0, nothing)
        if value != int(target):
            what = "is not a whole expression" if value < 0 else f"has the value {value}, not {target}"
            raise DataError(f"{file}:{number}: the expression {what}")
        yield tokens, int(target)


def index(found: Mapping[str, Path]) -> tuple[list[tuple[np.ndarray, int]], list[int]]:
    rows = [list(read(found[split])) for split in SPLITS]
    for split, part in zip(SPLITS, rows, strict=True):
        if not part:
            raise DataError(f"{found[split]}: no rows")
    check_classes([label for _, label in rows[0]], str(found["train"]))
    return [row for part in rows for row in part], [len(part) for part in rows]


def write(draft: Path, data: tuple[list[tuple[np.ndarray, int]], Any]) -> dict[str, Any]:
    """Store tokens uint8 (T,), offsets (N + 1,), labels uint8 (N,) and sizes (3,); returns the facts: `content`,
    a digest of all four."""
    rows, sizes = data
    arrays = {
        "tokens": np.concatenate([t for t, _ in rows]),
        "offsets": np.cumsum([0, *(len(t) for t, _ in rows)]).astype(np.int64),
        "labels": np.array([label for _, label in rows], np.uint8),
        "sizes": np.array(sizes, np.int64),
    }
    whole = hashlib.sha256()
    for name, values in arrays.items():
        np.save(draft / f"{name}.npy", values)
        whole.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")))
    return {"content": whole.hexdigest()[:16]}


def first_operator(train: Split, test: Split) -> np.ndarray:
    """The class most frequent in train under the expression's first token."""
    table = np.zeros((len(SYMBOLS) + 1, 10), np.int64)
    for i in range(len(train)):
        example = train[i]
        table[example.documents[0][0], example.label] += 1
    best = table.argmax(1)
    return np.array([best[test[i].documents[0][0]] for i in range(len(test))])


def truncated_at(depth: int, sample: int = 5_000) -> Callable[[Split, Split], np.ndarray]:
    """The rule that evaluates operators down to `depth` (root: 1) and takes each operator below
    for the value most frequent in train at that operator and depth, without reading it."""

    def rule(train: Split, test: Split) -> np.ndarray:
        from lra.tasks.listops.generator import count_values, evaluate

        table = np.zeros((5, 10), np.int64)
        for i in range(min(len(train), sample)):
            count_values(train[i].documents[0].astype(np.uint8), depth + 1, table)
        stand_in = table.argmax(1)
        values = [evaluate(test[i].documents[0].astype(np.uint8), depth, stand_in) for i in range(len(test))]
        return np.maximum(values, 0)

    return rule
