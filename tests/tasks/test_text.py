"""The Text task: bytes, splits, sources, and what bad data is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lra.tasks.base import DataError
from lra.tasks.sampling import content_keys, stratified
from lra.tasks.text import Text

WORDS = ["good", "bad", "film", "plot", "naïve", "<br />", "…", "dull", "bright", "and"]


def reviews(count: int, seed: int) -> tuple[list[str], list[int]]:
    """All negative reviews first, as on the hub."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 30))) + f" {seed}.{i}" for i in range(count)]
    return texts, [0] * (count // 2) + [1] * (count - count // 2)


def write(folder: Path, **splits: tuple[list[str], list[int]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (texts, labels) in splits.items():
        pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "imdb" / "plain_text", train=reviews(200, 1), test=reviews(60, 2)).parent


def contents_of(split, index: int) -> bytes:
    return bytes((split[index].documents[0] - 1).astype(np.uint8))


def contents(split) -> list[bytes]:
    return [contents_of(split, i) for i in range(len(split))]


def test_tokens_are_bytes_plus_one(tmp_path: Path) -> None:
    texts = ["naïve <br />", "\x00 and \x7f"]
    task = Text(path=str(write(tmp_path, train=reviews(40, 0), test=(texts, [0, 1]))), max_len=4096)
    test = task.split("test")
    for i, text in enumerate(texts):
        assert test[i].documents[0].tolist() == [b + 1 for b in text.encode()]
        assert test[i].label == i
        assert test.lengths[i] == len(text.encode())
    batch = task.collate([test[0], test[1]])
    assert batch.tokens.shape == (2, len(texts[0].encode()))
    assert batch.mask.sum(1).tolist() == [len(t.encode()) for t in texts]
    assert (batch.tokens[batch.mask] > 0).all() and not batch.tokens[~batch.mask].any()


def test_long_reviews_keep_their_beginning_and_are_counted(small: Path) -> None:
    whole, cut = Text(path=str(small)), Text(path=str(small), max_len=25)
    for a, b in zip(contents(whole.split("test")), contents(cut.split("test")), strict=True):
        assert b == a[:25]
    assert cut.notes()["test_texts_cut"] == sum(len(c) > 25 for c in contents(whole.split("test")))
    assert (cut.row, whole.row) == ("text-25-200+60rows", "text-200+60rows")
    assert cut.fingerprint() != whole.fingerprint()


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    task = Text(path=str(tmp_path / "absent"))
    assert (task.vocab_size, task.num_classes, task.documents, task.max_len, task.row) == (257, 2, 1, 4096, "text")
    with pytest.raises(DataError, match="absent is not a folder"):
        task.split("train")


def test_held_out_is_stratified_disjoint_and_independent_of_order(tmp_path: Path) -> None:
    texts, labels = reviews(400, 3)
    for i in range(30):  # repeated reviews must not be on both sides
        texts[i + 40] = texts[i]
    order = np.random.default_rng(0).permutation(400)
    shuffled = [texts[i] for i in order], [labels[i] for i in order]
    held = []
    for name, train in (("as_is", (texts, labels)), ("shuffled", shuffled)):
        task = Text(path=str(write(tmp_path / name, train=train, test=reviews(20, 4))))
        train_split, valid = task.split("train"), task.split("valid")
        assert np.bincount(valid.labels).tolist() == [20, 20]
        assert Counter(contents(train_split) + contents(valid)) == Counter(t.encode() for t in texts)
        assert not set(contents(train_split)) & set(contents(valid))
        held.append(set(contents(valid)))
    assert held[0] == held[1]
    other = Text(path=str(tmp_path / "as_is"), split_seed=1)
    assert set(contents(other.split("valid"))) != held[0]
    assert other.fingerprint() != Text(path=str(tmp_path / "as_is")).fingerprint()


def test_official_protocol_selects_on_test_and_says_so(small: Path) -> None:
    task = Text(path=str(small), validation="test")
    assert task.row.startswith("text-valid=test")
    assert len(task.split("train")) == 200
    assert contents(task.split("valid")) == contents(task.split("test"))
    assert task.fingerprint() != Text(path=str(small)).fingerprint()


def test_fewer_items_to_score_are_stratified_and_show(small: Path) -> None:
    task = Text(path=str(small), eval_items=10)
    assert [len(task.split(s)) for s in ("train", "valid", "test")] == [180, 10, 10]
    assert task.split("test").labels.sum() == 5
    assert task.row.endswith("-test10") and task.notes()["test_items"] == 10
    assert set(contents(task.split("test"))) <= set(contents(Text(path=str(small)).split("test")))
    assert task.fingerprint() != Text(path=str(small)).fingerprint()


def test_reviews_of_train_that_test_holds_are_reported(tmp_path: Path) -> None:
    train, test = reviews(40, 0), reviews(40, 1)
    train[0][3] = train[0][4] = test[0][7]
    notes = Text(path=str(write(tmp_path, train=train, test=test))).notes()
    assert notes["train_texts_also_in_test"] == 2
    assert notes["train_texts_repeated"] == 1


def test_unpacked_archive_reads_like_the_hub(tmp_path: Path) -> None:
    """The hub holds the archive's order: blocks of 128 ids, each descending, negative first."""
    ids = [127, 3, 0, 255, 200, 128, 256]
    tables, root = {}, tmp_path / "data" / "aclImdb"
    for split in ("train", "test"):
        texts = []
        for label, sentiment in enumerate(("neg", "pos")):
            (root / split / sentiment).mkdir(parents=True)
            for i in ids:
                text = f"{split} {sentiment} {i} naïve"
                (root / split / sentiment / f"{i}_{label}.txt").write_text(text, encoding="utf-8")
                texts.append(text)
        tables[split] = texts, [0] * 7 + [1] * 7
    from_hub = Text(path=str(write(tmp_path / "hub", **tables)))
    for path in (root, root.parent):
        unpacked = Text(path=str(path))
        assert contents(unpacked.split("test")) == contents(from_hub.split("test"))
        assert unpacked.fingerprint() == from_hub.fingerprint()


@pytest.mark.parametrize("count", [0, 1, 7, 33, 60])
def test_stratified_takes_class_shares_in_the_order_of_keys(count: int) -> None:
    labels = np.array([0] * 20 + [1] * 40)
    keys = content_keys([bytes([i]) for i in range(60)], seed=5)
    taken = stratified(labels, keys, count)
    assert len(taken) == count and (np.diff(taken) > 0).all()
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        best = members[np.argsort(keys[members])]
        mine = taken[labels[taken] == label]
        assert set(mine) == set(best[: len(mine)])
        assert abs(len(mine) - count * len(members) / 60) < 1


BAD = {
    "columns": ({"review": ["a"], "label": [0]}, "columns are review, label; text, label are needed"),
    "label_range": ({"text": ["a", "b"], "label": [0, 2]}, "row 1: label 2 is not one of 0 to 1"),
    "unsupervised": ({"text": ["a"], "label": [-1]}, "row 0: label -1 is not one of 0 to 1"),
    "label_type": ({"text": ["a"], "label": ["pos"]}, "label is string, a whole number from 0 to 1 is needed"),
    "text_type": ({"text": [1.5], "label": [0]}, "text is double, string is needed"),
    "missing": ({"text": ["a", None], "label": [0, 1]}, "column text has 1 empty cells"),
    "empty_text": ({"text": ["a", ""], "label": [0, 1]}, "row 1: the review is empty"),
    "no_rows": ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, "no rows"),
    "too_few": ({"text": ["a", "b"], "label": [0, 1]}, "2 training reviews are too few to hold 10 % out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_get_one_clear_line(tmp_path: Path, case: str) -> None:
    table, message = BAD[case]
    write(tmp_path, test=reviews(10, 0))
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        Text(path=str(tmp_path)).split("train")
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_archives_get_one_clear_line(tmp_path: Path) -> None:
    for sentiment in ("neg", "pos"):
        (tmp_path / "train" / sentiment).mkdir(parents=True)
    with pytest.raises(DataError, match=r"neg holds no reviews \(ID_RATING.txt\)"):
        Text(path=str(tmp_path)).split("train")
    (tmp_path / "train" / "neg" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt is not the name of a review"):
        Text(path=str(tmp_path)).split("train")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"validation": "train"}, "task.validation: 'train' is not one of held_out, test"),
        ({"eval_items": 0}, "task.eval_items: 0 is not a positive number"),
        ({"max_len": 0}, "task.max_len: 0 is not a positive number"),
    ],
)
def test_bad_parameters_name_the_field(params: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Text(**params)


@pytest.mark.shared
def test_imdb_is_whole_and_in_the_hubs_order(shared_data: Path) -> None:
    task = Text(path=str(shared_data / "hub" / "stanfordnlp" / "imdb"), validation="test")
    train, test = task.split("train"), task.split("test")
    for split, shortest in ((train, 52), (test, 32)):
        assert np.bincount(split.labels).tolist() == [12_500, 12_500]
        assert split.labels[0] == 0 and split.labels[-1] == 1
        assert (split.lengths.min(), split.lengths.max()) == (shortest, 4096)
    assert contents_of(train, 0).startswith(b"I rented I AM CURIOUS-YELLOW from my video store")
    assert contents_of(train, -1).startswith(b"The story centers around Barry McKenzie")
    assert contents_of(test, 0).startswith(b"I love sci-fi and am willing to put up with a lot.")
    assert task.row == "text-valid=test"
    assert task.notes()["train_texts_also_in_test"] == 123
    assert task.notes()["train_texts_repeated"] == 25_000 - 24_904
    assert (len(train.tokens), len(test.tokens)) == (33_132_823, 32_350_685)


@pytest.mark.shared
def test_imdb_held_out_does_not_meet_train(shared_data: Path) -> None:
    task = Text(path=str(shared_data / "hub" / "stanfordnlp" / "imdb"))
    train, valid = task.split("train"), task.split("valid")
    assert np.bincount(train.labels).tolist() == [11_250, 11_250]
    assert np.bincount(valid.labels).tolist() == [1_250, 1_250]
    assert task.row == "text"
    reviews_of = train.split
    keys = content_keys(
        reviews_of.tokens[a:b] for a, b in zip(reviews_of.offsets, reviews_of.offsets[1:], strict=False)
    )
    assert not np.isin(keys[valid.indices], keys[train.indices]).any()
