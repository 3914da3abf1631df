"""Retrieval from the release's files: what is read, how it is split, and what bad data is told."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import re
import resource
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lra.tasks.base import BYTE_VOCABULARY, DataError
from lra.tasks.floors.pairs import (
    apart,
    byte_ngram_cosine,
    length_and_histogram,
    tfidf_cosine,
    threshold,
    word_agreement,
)
from lra.tasks.retrieval import Retrieval
from lra.tasks.retrieval.pairs import FILES, RELEASE
from tests.help import big_pairs

RECORDS = Path(__file__).resolve().parents[2] / "results" / "runs" / "retrieval_acl"
TOPICS = tuple([f"{word}{topic}" for word in ("parser", "speech", "query")] for topic in "abcdefghijkl")


def literal(text: str) -> str:
    return repr(text.encode())


def papers(count: int, seed: int) -> list[tuple[int, str, str]]:
    """Pairs of one topic (label 1) or two, each text different."""
    rng, pairs = random.Random(seed), []
    for i in range(count):
        one = rng.randrange(len(TOPICS))
        other = one if i % 2 else (one + rng.randrange(1, len(TOPICS))) % len(TOPICS)
        texts = [
            f"{seed}.{i}.{j} " + " ".join(rng.choices([*TOPICS[t], "we", "show"], k=60))
            for j, t in enumerate((one, other))
        ]
        pairs.append((i % 2, *texts))
    return pairs


def write(folder: Path, write_text=literal, end: str = "\n", **splits: list[tuple[int, str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        lines = (f"{y}.0\tA{i}\tB{i}\t{write_text(u)}\t{write_text(v)}" for i, (y, u, v) in enumerate(rows))
        (folder / FILES[name]).write_bytes("".join(line + end for line in lines).encode())
    return folder


def small(folder: Path, **more) -> Path:
    return write(folder, train=papers(60, 1), valid=papers(20, 2), test=papers(20, 3), **more)


def raw(task: Retrieval, split: str, index: int) -> tuple[bytes, ...]:
    return tuple((d - 1).astype(np.uint8).tobytes() for d in task.split(split)[index].documents)


@pytest.fixture
def task(tmp_path: Path) -> Retrieval:
    return Retrieval(path=str(small(tmp_path / "tsv")), data_dir=tmp_path / "data")


def test_the_characters_of_the_file_are_read_as_they_stand(tmp_path: Path) -> None:
    texts = [(1, "naïve \\ 'quote'\n\tend", "it's"), (0, "a", 'say "no" and it\'s \x00')]
    folder = write(tmp_path / "t", train=papers(4, 0), valid=papers(4, 1), test=texts)
    task = Retrieval(path=str(folder), data_dir=tmp_path / "data")
    for i, (label, *pair) in enumerate(texts):
        assert raw(task, "test", i) == tuple(literal(t).encode() for t in pair)
        assert task.split("test")[i].label == label
        assert task.split("test").lengths[i] == max(len(literal(t)) for t in pair)
    assert all(32 <= b < 127 for i in range(2) for text in raw(task, "test", i) for b in text)

    decoded = Retrieval(path=str(folder), data_dir=tmp_path / "data", decode=True)
    for i, (_, *pair) in enumerate(texts):
        assert raw(decoded, "test", i) == tuple(t.encode() for t in pair)
    assert decoded.row == "retrieval-4+4+2pairs-decoded" and decoded.fingerprint() != task.fingerprint()
    assert decoded.notes()["bytes_literals"] == task.notes()["bytes_literals"] == 20


def test_texts_that_are_no_literals_are_the_same_either_way(tmp_path: Path) -> None:
    plain = "plain b'inner' text's \\n"
    folder = small(tmp_path / "t", write_text=lambda text: f"{plain} {text}")
    for decode in (False, True):
        task = Retrieval(path=str(folder), data_dir=tmp_path / "data", decode=decode)
        assert raw(task, "train", 0)[0].decode() == f"{plain} {papers(60, 1)[0][1]}"
        assert task.notes()["bytes_literals"] == 0


def test_batches_have_two_documents_and_a_mask(task: Retrieval) -> None:
    split = task.split("train")
    batch = task.collate([split[0], split[5]])
    assert batch.tokens.shape == batch.mask.shape == (2, 2, max(split.lengths[0], split.lengths[5]))
    assert batch.mask.sum(-1).tolist() == [[len(d) for d in split[i].documents] for i in (0, 5)]
    assert (batch.tokens[batch.mask] > 0).all() and not batch.tokens[~batch.mask].any()
    assert batch.tokens.max() < BYTE_VOCABULARY and batch.labels.tolist() == [0, 1]
    assert split[-1].label == split[59].label
    with pytest.raises(IndexError):
        split[60]


def test_long_documents_keep_their_beginning_and_are_counted(task: Retrieval, tmp_path: Path) -> None:
    cut = Retrieval(path=task.path, data_dir=tmp_path / "data", max_len=50)
    for i in range(20):
        assert raw(cut, "test", i) == tuple(text[:50] for text in raw(task, "test", i))
    assert (cut.split("test").truncated, task.split("test").truncated) == (20, 0)
    assert cut.row == "retrieval-50-60+20+20pairs"
    # A length above the exam's has an index of its own, and one byte more than 4,000 is still told from 4,000.
    long = write(tmp_path / "long", **{s: [(0, "x" * 9000, "y" * 3997), (1, "x", "y" * 3998)] for s in FILES})
    for max_len, truncated in ((4000, 2), (4001, 1), (9003, 0)):
        task = Retrieval(path=str(long), data_dir=tmp_path / "data", max_len=max_len)
        assert task.split("test").truncated == truncated
        assert [len(t) for t in raw(task, "test", 0)] == [min(9003, max_len), 4000]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    task = Retrieval(path=str(tmp_path / "absent"), data_dir=tmp_path / "data")
    facts = (task.vocab_size, task.num_classes, task.documents, task.max_len, task.row)
    assert facts == (257, 2, 2, 4000, "retrieval") and task.describe()["found"] is None
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("nest", ["", "tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data"])
def test_the_usual_places(tmp_path: Path, task: Retrieval, nest: str) -> None:
    small(tmp_path / "top" / nest)
    there = Retrieval(path=str(tmp_path / "top"), data_dir=tmp_path / "data")
    assert there.describe()["found"] == tmp_path / "top" / nest
    assert there.fingerprint() == task.fingerprint()


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_an_archive_is_read_without_unpacking(tmp_path: Path, task: Retrieval, kind: str) -> None:
    archive = tmp_path / "packed" / f"tsv_data.tar.{kind}"
    archive.parent.mkdir()
    with tarfile.open(archive, f"w:{kind}") as tar:
        tar.add(task.path, "tsv_data")
    for path in (archive, archive.parent):
        packed = Retrieval(path=str(path), data_dir=tmp_path / "data")
        assert packed.fingerprint() == task.fingerprint()
        assert raw(packed, "test", 7) == raw(task, "test", 7)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refused(archive, "damaged|holds no", tmp_path)
    archive.write_bytes(b"no archive at all")
    refused(archive, "no archive", tmp_path)


def test_without_files_the_message_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lra\.data fetch lra_release --only retrieval.*task=retrieval_synth"):
        Retrieval(data_dir=tmp_path).split("train")
    small(tmp_path / "lra_release" / "tsv_data")
    assert len(Retrieval(data_dir=tmp_path).split("train")) == 60


def refused(path: Path, message: str, tmp_path: Path, **options) -> None:
    with pytest.raises(DataError, match=message) as error:
        Retrieval(path=str(path), data_dir=tmp_path / "data", **options).split("train")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("pairs-*")) or "archive" in message or "damaged" in message


GOOD = "1.0\ta\tb\tb'one'\tb'two'\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label\tid1\tid2\ttext1\ttext2\n" + GOOD, r"train\.tsv:1: label 'label' is not 0\.0 or 1\.0; .* no header"),
        (GOOD + "2.0\ta\tb\tb'one'\tb'two'\n", r"train\.tsv:2: label '2\.0' is not"),
        (GOOD + "1.0\ta\tb\tb'one'\n", r"train\.tsv:2: 4 fields instead of 5"),
        (GOOD + "1.0\ta\tb\tb'one'\tb'tw", r"train\.tsv:2: text2 opens as a bytes literal and has no end"),
        (GOOD + "\n", r"train\.tsv:2: 1 fields"),
        ("", r"train\.tsv: no rows"),
    ],
)
def test_malformed_files_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    folder = small(tmp_path / "t")
    (folder / FILES["train"]).write_text(content)
    refused(folder, message, tmp_path)


def test_a_broken_literal_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    folder = small(tmp_path / "t")
    (folder / FILES["valid"]).write_text(GOOD + "1.0\ta\tb\tb'a' + b'c'\tb'x' if 1 else b'y'\n")
    refused(folder, r"eval\.tsv:2: .* set task\.decode=false", tmp_path, decode=True)
    assert len(Retrieval(path=str(folder), data_dir=tmp_path / "data").split("valid")) == 2


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    folder = small(tmp_path / "t")
    (folder / FILES["valid"]).unlink()
    refused(folder, r"holds no new_aan_pairs\.eval\.tsv", tmp_path)
    small(folder)
    (folder / FILES["valid"]).chmod(0)
    if os.access(folder / FILES["valid"], os.R_OK):
        pytest.skip("this user may read any file")
    refused(folder, r"eval\.tsv cannot be read \(Permission denied\)", tmp_path)


def test_an_unreadable_file_is_named_even_to_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened = small(tmp_path / "t"), Path.open

    def refusing(path: Path, *arguments, **options):
        if path.name == FILES["valid"]:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    refused(folder, r"task\.path: .*eval\.tsv cannot be read \(Permission denied\)", tmp_path)


@pytest.mark.parametrize(
    "bad", [{"decode": "yes"}, {"pairs": [1, 2]}, {"eval_items": 0}, {"max_len": 0}, {"pairs": ["a", 1, 2]}]
)
def test_bad_options(bad: dict) -> None:
    field = next(iter(bad))
    with pytest.raises(DataError, match=f"task.{field}"):
        Retrieval(**bad)


def test_empty_texts_become_a_space_and_are_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "t", train=papers(4, 0), valid=papers(4, 1), test=[(0, "", "x"), (1, "y", "")])
    task = Retrieval(path=str(folder), data_dir=tmp_path / "data", decode=True)
    assert raw(task, "test", 0) == (b" ", b"x") and task.notes()["empty_documents"] == 2


def test_windows_line_ends(tmp_path: Path) -> None:
    task = Retrieval(path=str(small(tmp_path / "t", end="\r\n")), data_dir=tmp_path / "data")
    assert raw(task, "test", 0)[1].endswith(b"'")


def test_a_fingerprint_follows_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint(name: str, change=lambda text: text, **more) -> str:
        folder = small(tmp_path / name)
        for file in folder.iterdir():
            file.write_bytes(change(file.read_bytes()))
        return Retrieval(path=str(folder), data_dir=tmp_path / "data", **more).fingerprint()

    one = fingerprint("lf")
    assert fingerprint("crlf", lambda text: text.replace(b"\n", b"\r\n")) == one
    assert fingerprint("bare", lambda text: text[:-1]) == one
    assert fingerprint("labels", lambda text: re.sub(rb"(?m)^([01])\.0", rb"\1", text)) == one
    assert fingerprint("texts", lambda text: text.replace(b"parser", b"parsed", 1)) != one
    plain = fingerprint("quotes", decode=True)
    assert fingerprint("other quotes", lambda text: re.sub(rb"b'([^'\t]*)'", rb'b"\1"', text), decode=True) == plain


@pytest.mark.shared
def test_recorded_runs_on_these_pairs_stay_what_they_are(shared_data: Path, tmp_path: Path) -> None:
    recorded = {json.loads(f.read_text())["data"]["fingerprint"] for f in RECORDS.rglob("*.json")}
    path = shared_data / "lra_release" / "tsv_data.tar.xz"
    task = Retrieval(path=str(path), max_len=128, data_dir=tmp_path)
    assert recorded == {task.fingerprint()}


def test_a_file_overwritten_in_place_is_read_again(tmp_path: Path, task: Retrieval) -> None:
    """Of the same size, and its time set back."""
    before, file = task.fingerprint(), Path(task.path) / FILES["test"]
    stamp = file.stat()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file.stat().st_size == stamp.st_size
    assert Retrieval(path=task.path, data_dir=task.data_dir).fingerprint() != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf1.0\ta\tb\tx\ty\n", "begins with a byte order mark of UTF-8"),
        (b"1.0\ta\tb\tx\ty\n" * 4, "every training item has label 1"),
        (b"9" * 5000 + b"\ta\tb\tx\ty\n", ":1: label '9{39}[.]{3} is not 0.0 or 1.0"),
        (b"x" * ((1 << 26) + 2), ":1: longer than 64 MiB"),
    ],
)
def test_hostile_files_are_one_short_line(tmp_path: Path, content: bytes, message: str) -> None:
    (small(tmp_path) / FILES["train"]).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Retrieval(path=str(tmp_path), data_dir=tmp_path / "data").split("train")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def hostile_archive(file: Path, member: tarfile.TarInfo, size: int) -> None:
    """A member of a gigabyte of zeros, which take a megabyte."""
    member.size = size
    with gzip.open(file, "wb", 1) as out:
        out.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 24 if member.isreg() else 1):
            out.write(bytes(1 << 24))
        out.write(bytes(1024))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("new_aan_pairs.train.tsv", tarfile.REGTYPE, "train.tsv:1: longer than 64 MiB"),
        ("x", tarfile.XHDTYPE, "damaged or cut short .a name or header of 1,073,741,824 bytes"),
        ("x", tarfile.GNUTYPE_LONGNAME, "damaged or cut short .a name or header of 1,073,741,824 bytes"),
    ],
)
@pytest.mark.slow
def test_a_gigabyte_in_a_small_archive_does_not_fill_memory(
    tmp_path: Path, name: str, kind: bytes, message: str
) -> None:
    member = tarfile.TarInfo(name)
    member.type = kind
    hostile_archive(tmp_path / "tsv_data.tar.gz", member, 1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=message) as caught:
        Retrieval(path=str(tmp_path), data_dir=tmp_path / "data").split("train")
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_pairs_in_two_splits_and_papers_seen_before_are_reported(tmp_path: Path) -> None:
    train, test = papers(10, 1), papers(6, 2)
    test[0] = train[0]
    test[1] = (train[1][0], train[1][2], train[1][1])  # the other way round
    test[2] = (test[2][0], train[5][1], test[2][2])
    folder = write(tmp_path / "t", train=train, valid=papers(4, 3), test=test)
    notes = Retrieval(path=str(folder), data_dir=tmp_path / "data").notes()
    assert notes["pairs"] == {"train": 10, "valid": 4, "test": 6} and notes["positives"]["train"] == 5
    assert notes["pairs_in_two_splits"] == 2
    assert (notes["test_papers"], notes["test_papers_also_in_train"]) == (12, 5)


def test_rows_of_the_release_itself_carry_no_mark(tmp_path: Path) -> None:
    folder = str(small(tmp_path / "t"))
    for pairs, eval_items, row in (
        ([60, 20, 20], None, "retrieval"),
        (None, None, "retrieval"),
        (RELEASE, None, "retrieval-60+20+20pairs"),
        ([60, 20, 20], 10, "retrieval-test10"),
        ([60, 20, 20], 20, "retrieval"),
    ):
        task = Retrieval(path=folder, data_dir=tmp_path / "data", pairs=pairs, eval_items=eval_items)
        task.split("test")
        assert task.row == row


def test_eval_items_are_stratified_and_chosen_by_content(tmp_path: Path) -> None:
    rows = papers(60, 3)
    chosen = []
    for name, order in (("a", rows), ("b", rows[::-1])):
        folder = write(tmp_path / name, train=papers(10, 1), valid=papers(20, 2), test=order)
        task = Retrieval(path=str(folder), data_dir=tmp_path / "data", eval_items=14)
        assert len(task.split("train")) == 10 and len(task.split("valid")) == 14
        assert sorted(task.split("test").labels.tolist()) == [0] * 7 + [1] * 7
        chosen.append({raw(task, "test", i) for i in range(14)})
    assert chosen[0] == chosen[1]


def test_a_changed_file_is_read_again(tmp_path: Path, task: Retrieval) -> None:
    before = task.fingerprint()
    write(Path(task.path), test=papers(22, 9))
    again = Retrieval(path=task.path, data_dir=tmp_path / "data")
    assert len(again.split("test")) == 22 and again.fingerprint() != before


def test_a_split_can_be_sent_to_a_worker(task: Retrieval) -> None:
    split = task.split("test")
    split[0]
    copy = pickle.loads(pickle.dumps(split.tokens))
    assert (copy[3:9] == split.tokens[3:9]).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    big_pairs.write(tmp_path / "tsv_data", 24_000_000)
    peak = big_pairs.measure(tmp_path, tmp_path / "data")
    assert sum(peak["items"].values()) > 900
    # The index of these rows alone is 7 MB: mapped, read into memory or kept as rows, it would show.
    assert peak["indexed"] - peak["before"] < 6_000_000
    assert peak["read"] - peak["before"] < 8_000_000


@pytest.mark.slow
def test_four_gigabytes_below_one_gibibyte(tmp_path: Path) -> None:
    big_pairs.write(tmp_path / "tsv_data", 4_000_000_000)
    peak = big_pairs.measure(tmp_path, tmp_path / "data")
    assert sum(peak["items"].values()) > 100_000 and peak["read"] < 2**30


def test_threshold_is_the_best_there_is() -> None:
    rng = np.random.default_rng(0)
    for trial in range(50):
        scores, labels = rng.integers(0, 8, 12) / 8, rng.integers(0, 2, 12)
        if trial % 2:
            scores = rng.random(12)
        limit = threshold(scores, labels)
        best = max(((scores > x) == labels).mean() for x in [-1, *scores])
        if trial % 2:
            assert ((scores > limit) == labels).mean() == best


def test_floors_see_a_topic_and_not_the_order_of_the_documents(task: Retrieval) -> None:
    train, test = task.split("train"), task.split("test")
    for rule in (tfidf_cosine, byte_ngram_cosine, word_agreement):
        assert (rule(train, test) == test.labels).mean() >= 0.7
    assert length_and_histogram(train, test).shape == (20,)

    class Swapped:
        labels = test.labels

        def __getitem__(self, index: int):
            example = test[index]
            return example._replace(documents=example.documents[::-1])

    every = np.arange(20)
    np.testing.assert_allclose(apart(test, every), apart(Swapped(), every))


@pytest.mark.shared
@pytest.mark.slow
def test_anthology_pairs(shared_data: Path, tmp_path: Path) -> None:
    task = Retrieval("retrieval_acl", path=str(shared_data / "lra_release"), pairs=[4416, 552, 554], data_dir=tmp_path)
    notes = task.notes()
    assert task.row == "retrieval_acl" and task.fingerprint() == "a9181ba8e952b454"
    assert notes["pairs"] == {"train": 4416, "valid": 552, "test": 554}
    assert notes["positives"] == {"train": 2208, "valid": 276, "test": 277}
    assert notes["pairs_in_two_splits"] == 0 and notes["test_papers_also_in_train"] == 384
    assert notes["bytes_literals"] == 2 * 5522 and notes["empty_documents"] == 0
    first, last = raw(task, "train", 0), raw(task, "test", 553)
    assert first[0].startswith(b"b'Characterizing the Errors of Data-Driven Dependency Parsing Models We present a")
    assert task.split("train")[0].label == 0 and len(first[0]) == len(last[0]) == 4000
    seen = np.unique(np.concatenate([d for i in range(200) for d in task.split("train")[i].documents]))
    assert seen.min() >= 33 and seen.max() <= 127  # printable ASCII and nothing else


@pytest.mark.shared
@pytest.mark.slow
def test_film_pairs(shared_data: Path, tmp_path: Path) -> None:
    task = Retrieval("film", path=str(shared_data / "film_pairs"), data_dir=tmp_path)
    notes = task.notes()
    assert notes["pairs"] == {"train": 8000, "valid": 1000, "test": 1000}
    assert notes["positives"] == {"train": 4000, "valid": 500, "test": 500}
    assert (notes["pairs_in_two_splits"], notes["test_papers_also_in_train"]) == (0, 0)
    assert task.row == "film-8000+1000+1000pairs"
    assert raw(task, "train", 0)[0].startswith(b"b'Cool idea... botched writing, botched directing")


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(("folder", "figure"), [("lra_release", 0.8105), ("film_pairs", 0.839)])
def test_tfidf_on_real_pairs(shared_data: Path, tmp_path: Path, folder: str, figure: float) -> None:
    task = Retrieval(path=str(shared_data / folder), data_dir=tmp_path)
    test = task.split("test")
    assert abs((tfidf_cosine(task.split("train"), test) == test.labels).mean() - figure) < 0.01


def test_what_was_counted_of_each_split_is_checked_when_it_is_read_again(tmp_path: Path, task: Retrieval) -> None:
    """A manifest of another shape is refused in a line, and not met as a KeyError later."""
    from lra.tasks import store

    task.split("test")
    (manifest,) = (p for p in tmp_path.rglob(store.MANIFEST) if "pairs" in p.parent.name)
    said = json.loads(manifest.read_text())
    for harm in ({"splits": {}}, {"splits": {"train": {}}}, {"splits": []}):
        manifest.write_text(json.dumps(said | {"facts": said["facts"] | harm}))
        with pytest.raises(DataError, match="facts are not splits"):
            Retrieval(path=task.path, data_dir=tmp_path / "data").split("test")


def test_floors_read_bytes_that_are_no_text(task: Retrieval) -> None:
    """Every byte is a character of its own, whatever encoding it is from."""
    from lra.tasks.floors.pairs import texts

    split = {0: SimpleNamespace(documents=[np.array([0xE9 + 1, 0xFF + 1, 0x41 + 1]), np.array([1])])}
    assert list(texts(split, np.array([0]), 0)) == ["\xe9\xffA"] and list(texts(split, np.array([0]), 1)) == ["\0"]
