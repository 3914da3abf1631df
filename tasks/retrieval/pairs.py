"""The release's files of pairs: found, read row by row, and indexed."""

from __future__ import annotations

import ast
import hashlib
import lzma
import os
import tarfile
import warnings
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lra.tasks import files
from lra.tasks.base import DataError
from lra.tasks.sampling import check_classes

VERSION = 2  # of the index below; another one is built anew
FILES = {"train": "new_aan_pairs.train.tsv", "valid": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv"}
RELEASE = (147_086, 18_090, 17_437)  # pairs of train, valid, test (spec 1.5)
NESTED = ("", "tsv_data", "lra_release", "lra_release/tsv_data", "lra_release/lra_release/tsv_data")
ARCHIVES = ("tsv_data.tar.xz", "tsv_data.tar.gz", "tsv_data.tgz", "tsv_data.tar")
LABELS = {b"0.0": 0, b"1.0": 1, b"0": 0, b"1": 1}
CANONICAL = (b"0.0", b"1.0")  # as the release writes a label
DAMAGED = (EOFError, lzma.LZMAError, zlib.error, tarfile.TarError)


class FileBytes:
    """The bytes of a file, by slice: uint8 arrays.

    Read, not mapped: the pages of a mapping count as resident memory, and one epoch would touch
    all of them. `pread` moves no offset, so forked workers can share the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return self.path.stat().st_size

    def __getitem__(self, part: slice) -> np.ndarray:
        if self._file is None:
            self._file = self.path.open("rb", buffering=0)
        raw = os.pread(self._file.fileno(), part.stop - part.start, part.start)
        if len(raw) != part.stop - part.start:
            raise DataError(f"{self.path} ends before byte {part.stop}; delete {self.path.parent} to rebuild it")
        return np.frombuffer(raw, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None}


class Source:
    """The three TSV files, `root` the folder that holds them or the archive they are packed in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packed = root.is_file()
        self.files = [root] if self.packed else [root / file for file in FILES.values()]

    def stats(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Each file with its size and times. Raises DataError."""
        for file in self.files:
            try:
                yield file, file.stat()
            except OSError as error:
                raise DataError(f"task.path: {file} cannot be read ({error.strerror})") from error

    def streams(self) -> Iterator[tuple[str, str, BinaryIO, int]]:
        """(split, name for messages, open file, bytes) of each. Raises DataError."""
        if not self.packed:
            for split, path in zip(FILES, self.files, strict=True):
                try:
                    handle = files.opened(path)
                except OSError as error:
                    raise DataError(f"task.path: {path} cannot be read ({error.strerror})") from error
                with handle:
                    yield split, str(path), handle, path.stat().st_size
            return
        wanted = {file: split for split, file in FILES.items()}
        try:
            with tarfile.open(self.root, "r|*", tarinfo=files.Member) as tar:
                for member in tar:
                    split = wanted.pop(Path(member.name).name, None) if member.isfile() else None
                    if split:
                        yield split, f"{self.root}:{member.name}", tar.extractfile(member), member.size
                        if not wanted:
                            break
        except OSError as error:
            raise DataError(f"task.path: {self.root} cannot be read ({error.strerror or error})") from error
        except DAMAGED as error:
            raise DataError(f"task.path: {self.root} is no archive, or is damaged or cut short ({error})") from error
        if wanted:
            raise DataError(f"task.path: {self.root} holds no {', '.join(wanted)}")


def find(root: Path, field: str, instead: str) -> Source:
    """The pairs at `root`, at any usual place below it, or packed there. Raises DataError."""
    try:
        if root.is_file():
            return Source(root)
        folders = [root / n for n in NESTED]
        held = {f: [file for file in FILES.values() if (f / file).is_file()] for f in folders}
        for folder, present in held.items():
            if len(present) == len(FILES):
                return Source(folder)
        for folder, present in held.items():
            if present:
                missing = ", ".join(file for file in FILES.values() if file not in present)
                raise DataError(f"{field}: {folder} holds no {missing}")
        for folder in folders:
            for archive in ARCHIVES:
                if (folder / archive).is_file():
                    return Source(folder / archive)
    except PermissionError as error:
        raise DataError(f"{field}: {error.filename} cannot be read ({error.strerror})") from error
    what = f"holds no {', '.join(FILES.values())}" if root.is_dir() else "does not exist"
    raise DataError(f"{field}: {root} {what}; {instead}")


def rows(handle: BinaryIO, where: str) -> Iterator[tuple[int, tuple[bytes, bytes], tuple[bytes, bytes], int]]:
    """(label, ids, texts as they stand, bytes in the file) of each row. Raises DataError, naming the line."""
    number = 0
    while True:
        try:
            line = handle.readline(files.LONGEST_ROW + 1)
        except OSError as error:
            raise DataError(f"task.path: {where} cannot be read ({error.strerror or error})") from error
        except DAMAGED as error:
            raise DataError(f"{where}:{number + 1}: the archive is damaged or cut short ({error})") from error
        if not line:
            break
        number += 1
        if number == 1:
            files.check_mark(line, where)
        if len(line) > files.LONGEST_ROW:
            raise DataError(f"{where}:{number}: longer than {files.LONGEST_ROW >> 20} MiB, which no row is")
        if (count := line.count(b"\t") + 1) != 5:  # counted first: a row may be 64 MiB of tabs
            raise DataError(f"{where}:{number}: {count} fields instead of 5 (label, id1, id2, text1, text2)")
        fields = line.rstrip(b"\r\n").split(b"\t")
        label = LABELS.get(fields[0])
        if label is None:
            hint = "; these files have no header" if number == 1 else ""
            found = files.shown(fields[0][:41].decode("ascii", "replace"))
            raise DataError(f"{where}:{number}: label {found} is not 0.0 or 1.0{hint}")
        for name, text in (("text1", fields[3]), ("text2", fields[4])):
            if text[:2] in (b"b'", b'b"') and (len(text) < 3 or text[-1:] != text[1:2]):
                raise DataError(f"{where}:{number}: {name} opens as a bytes literal and has no end: a row cut short")
        yield label, (fields[1], fields[2]), (fields[3], fields[4]), len(line)
    if not number:
        raise DataError(f"{where}: no rows")


def is_literal(text: bytes) -> bool:
    return text[:2] in (b"b'", b'b"')


def decoded(text: bytes, where: str) -> bytes:
    """The bytes that a bytes literal stands for; any other text as it is."""
    if not is_literal(text):
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes that Python does not know, which it keeps
            value = ast.literal_eval(text.decode("ascii"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: a text opens as a bytes literal and is none; set task.decode=false") from error
    if not isinstance(value, bytes):
        raise DataError(f"{where}: a text opens as a bytes literal and is none; set task.decode=false")
    return value


def index(source: Source, draft: Path, keep: int, decode: bool) -> dict[str, Any]:
    """Write the store: per split the first `keep` bytes of all documents in `.bin`, `offsets`,
    `labels`, and `keys`, a hash of each pair's whole texts. Returns the facts for the manifest."""
    facts: dict[str, Any] = {}
    papers: dict[str, np.ndarray] = {}
    pairs: dict[str, np.ndarray] = {}
    for split, where, handle, size in source.streams():
        facts[split], papers[split] = index_split(split, where, handle, size, draft, keep, decode)
        keys = papers[split].reshape(-1, 2)
        np.save(draft / f"{split}.keys.npy", keys[:, 0] * np.uint64(0x9E3779B97F4A7C15) + keys[:, 1])
        # The same two papers in the other order are the same pair.
        pairs[split] = np.unique(keys.min(1) * np.uint64(0x9E3779B97F4A7C15) + keys.max(1))
    apart = np.unique(np.concatenate(list(pairs.values())))
    of_test = np.unique(papers["test"])
    return {
        "splits": facts,
        "pairs_in_two_splits": sum(map(len, pairs.values())) - len(apart),
        "test_papers": len(of_test),
        "test_papers_also_in_train": int(np.isin(of_test, papers["train"]).sum()),
    }


def index_split(
    split: str, where: str, handle: BinaryIO, size: int, draft: Path, keep: int, decode: bool
) -> tuple[dict[str, Any], np.ndarray]:
    """One file into the store, a row at a time; the facts, and a hash uint64 (2N,) of each document."""
    from tqdm import tqdm

    offsets, labels, papers = array("q", [0]), array("B"), array("Q")
    contents = hashlib.sha256()
    literals = empty = 0
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=f"reading {FILES[split]}", disable=None, leave=False)
    with bar, (draft / f"{split}.bin").open("wb") as out:
        for label, ids, texts, length in rows(handle, where):
            labels.append(label)
            literals += sum(map(is_literal, texts))
            if decode:
                texts = tuple(decoded(text, f"{where}:{len(labels)}") for text in texts)
            # As the release's own line stands, however this file ends its lines and writes its labels.
            contents.update(b"\t".join((CANONICAL[label], *ids, *texts)) + b"\n")
            for text in texts:
                papers.append(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
                if not text:
                    empty += 1
                    text = b" "
                out.write(text[:keep])
                offsets.append(offsets[-1] + min(len(text), keep))
            bar.update(length)
    if split == "train":
        check_classes(labels, where)
    np.save(draft / f"{split}.offsets.npy", np.frombuffer(offsets, np.int64))
    np.save(draft / f"{split}.labels.npy", np.frombuffer(labels, np.uint8).astype(np.int64))
    facts = {
        "pairs": len(labels),
        "positives": sum(labels),
        "sha256": contents.hexdigest(),
        "bytes_literals": literals,
        "empty_documents": empty,
    }
    return facts, np.frombuffer(papers, np.uint64)
