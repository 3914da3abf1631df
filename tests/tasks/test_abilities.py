"""The abilities: their answers, solved a second time from the tokens; the same items whoever draws them."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

from lra.settings import build, compose
from lra.tasks.ability.base import Ability
from lra.tasks.ability.recall import Recall
from lra.tasks.ability.shift import Shift
from lra.tasks.base import NOT_ASKED, SPLITS, DataError
from lra.train.batches import loader
from tests.help.abilities import OTHER, TASKS, answered
from tests.help.few import others_slow
from tests.help.tiny import ROOT

CASES = [pytest.param(n, o, id=TASKS[n](**o).row) for n in TASKS for o in ({}, *OTHER[n])]
ITEMS = 2_000
GOLDEN = {
    "needle": ["1977134e7220", "7b6b5824f564", "8930da47f7b7"],
    "recall": ["1fb16ccbcfc4", "4eac483b8ff6", "923707404357"],
    "shift": ["3358b10b3421", "71d192559d3a", "f9f384c7439b"],
    "select": ["eb1f8f9859cf", "85ac97751ee4", "9618b68f4743"],
    "compress": ["d445327fb24f", "82f835098d6f", "9fe2a2884ade"],
    "flipflop": ["ca3e81bf8b56", "09d786f4c8ec", "6c1ccee17f24"],
    "state": ["3420a596701f", "35440b933f83", "d2c547f222d0"],
    "hops": ["3e6e340ac2d1", "bc3a7e37259f", "be58c7429909"],
    "brackets": ["0e2a5ab7c3c1", "caa3529070c6", "10c64f5ac390"],
    "smooth": ["688f464070ad", "92ebf1fc11b1", "d61c746babb6"],
    "texture": ["e74035a7eb8a", "8e98a83ed917", "7a6f5d46901c"],
    "memorise": ["5551d1aefa80", "77f0cd600a9f", "4a011906ef36"],
}


def content(task: Ability, split: str, count: int = 20) -> str:
    return hashlib.sha256(
        b"".join(part.astype("<i8").tobytes() for part in task.split(split).drawn(np.arange(count)))
    ).hexdigest()[:12]


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c.values[0] != "smooth"])
def test_a_slow_reader_solves_it_from_the_tokens_alone(name: str, options: dict[str, Any]) -> None:
    """Every class, and which positions are asked: a second implementation of the rule."""
    task = TASKS[name](**options, sizes=(30, 60))
    stream = ITEMS if options == {} else ITEMS // 20
    for split, count in (("train", stream), ("valid", 30), ("test", 60)):
        drawn = task.split(split).drawn(np.arange(count))
        assert drawn.tokens.shape == drawn.labels.shape == drawn.kinds.shape == (count, task.max_len)
        assert drawn.tokens.min() >= 1 and drawn.tokens.max() < task.vocab_size
        for tokens, labels in zip(drawn.tokens, drawn.labels, strict=True):
            right = answered(task, [task.symbols[i - 1] for i in tokens], split)
            if name == "texture":  # two tiles may have the same copy
                assert [i for i, y in enumerate(labels) if y != NOT_ASKED] == sorted(right)
                assert all(labels[i] in allowed for i, allowed in right.items())
            else:
                assert {i: y for i, y in enumerate(labels.tolist()) if y != NOT_ASKED} == right
                assert all(0 <= y < task.num_classes for y in right.values())


@pytest.mark.parametrize("name", TASKS)
def test_the_same_items_for_ever(name: str) -> None:
    """A change of these digests changes every score: it needs a new VERSION."""
    task = TASKS[name](sizes=(20, 20))
    assert [content(task, s) for s in SPLITS] == GOLDEN[name]
    assert content(TASKS[name](sizes=(20, 20), seed=1), "train") != GOLDEN[name][0]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_item_does_not_know_its_batch(name: str, options: dict[str, Any]) -> None:
    """Alone, in other company, far along the stream, and whatever the sizes of the fixed sets."""
    task, more = TASKS[name](**options, sizes=(7, 9)), TASKS[name](**options, sizes=(20, 30))
    far = np.array([3, 1, 2**55 + 5, 700, 3])
    for split, indices in (("train", far), ("test", np.array([3, 8, 0])), ("valid", np.array([6, 2]))):
        together = task.split(split).drawn(indices)
        for row, i in enumerate(indices):
            alone = task.split(split)[int(i)]
            assert (alone.documents[0] == together.tokens[row]).all() and (alone.label == together.labels[row]).all()
            again = more.split(split)[int(i)]
            assert (again.documents[0] == alone.documents[0]).all() and (again.label == alone.label).all()
    many = task.split("train").drawn(np.arange(1100))  # beyond what is drawn at a time
    assert all((a[600:] == b).all() for a, b in zip(many, task.split("train").drawn(np.arange(600, 1100)), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_load_the_same_batches(workers: int) -> None:
    task = Recall(sizes=(5, 5))
    batches = [np.array([5, 2**50, 7]), np.array([1, 2, 3])]
    found = list(loader(task, task.split("train"), batches, workers, False))
    for indices, batch in zip(batches, found, strict=True):
        drawn = task.split("train").drawn(indices)
        assert (batch.tokens.numpy() == drawn.tokens).all() and (batch.labels.numpy() == drawn.labels).all()
        assert batch.mask.all() and batch.tokens.shape == (3, 64)


def test_a_task_that_was_pickled_draws_the_same() -> None:
    task = Recall(sizes=(5, 5))
    before = task.split("train")[3]
    after = pickle.loads(pickle.dumps(task.split("train")))[3]
    assert (before.documents[0] == after.documents[0]).all()


def rows(task: Ability, split: str, count: int) -> set[bytes]:
    return {t.tobytes() for t in task.split(split).drawn(np.arange(count)).tokens}


def test_no_content_is_in_two_splits_however_few_there_are() -> None:
    """512 sequences of three tokens of eight: the stream has all that are not held, and no other."""
    task = Shift(max_len=3, by=2, sizes=(60, 90))
    valid, test, train = rows(task, "valid", 60), rows(task, "test", 90), rows(task, "train", 20_000)
    assert not valid & test and not (valid | test) & train
    assert len(valid) > 45 and len(test) > 70 and len(valid | test | train) == 512
    drawn = task.split("train").drawn(np.arange(20_000)).tokens
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    expected = len(drawn) / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 5 * np.sqrt(2 * len(counts))  # uniform


def test_where_nothing_is_left_to_train_on_one_line_says_so() -> None:
    task = Shift(max_len=2, by=1, values=2, sizes=(500, 500))
    with pytest.raises(DataError, match=r"^task\.sizes: .*leave none"):
        task.split("train")[0]


def test_a_stream_takes_no_memory_and_has_no_whole() -> None:
    stream = Recall().split("train")
    assert stream.endless and len(stream) == len(stream.lengths) > 2**50 and stream.lengths.strides == (0,)
    assert stream.lengths[2**54] == 64 and not Recall().split("test").endless
    with pytest.raises(TypeError, match="no end"):
        _ = stream.all
    with pytest.raises(IndexError):
        Recall(sizes=(5, 5)).split("test")[5]
    test = Recall(sizes=(5, 5)).split("test")
    assert (test[-1].documents[0] == test[4].documents[0]).all()


def test_so_many_items_are_the_first_of_the_stream() -> None:
    some, stream = Shift(items=5, sizes=(4, 4)), Shift(sizes=(4, 4))
    train = some.split("train")
    assert not train.endless and len(train) == 5 and some.row == "shift-items5"
    assert np.array_equal(train.all.tokens, stream.split("train").drawn(np.arange(5)).tokens)
    further = train.drawn(np.arange(9)).tokens  # of which rules learn
    assert np.array_equal(further, stream.split("train").drawn(np.arange(9)).tokens)
    assert some.twin(20).items == 5 and some.identity() == {"items": 5} | stream.identity()
    for items in (0, 2.5, True):
        with pytest.raises(DataError, match=r"^task\.items: "):
            Shift(items=items)


def test_items_of_neighbouring_numbers_and_seeds_share_nothing() -> None:
    """Tokens agree as often as chance has it, across items, seeds and splits."""
    tasks = [Shift(values=2, seed=s, sizes=(300, 300)) for s in (0, 1, 4)]
    sets = [t.split(s).drawn(np.arange(300)).tokens for t in tasks for s in ("train", "valid", "test")]
    for a, b in itertools.combinations(sets, 2):
        assert abs((a == b).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)
    for a in sets:
        assert abs((a[1:] == a[:-1]).mean() - 0.5) < 5 * 0.5 / np.sqrt(a.size)


@pytest.mark.parametrize("name", others_slow(TASKS, ("recall", "state", "texture")))
def test_the_yaml_is_the_exam_itself(name: str) -> None:
    task = build.task(compose.config([f"task={name}"]))
    assert task.row == name and task.fingerprint() == TASKS[name]().fingerprint()
    assert task.describe()["found"] and task.notes()["disjoint"] == "by content"


def test_every_exam_has_its_paragraph_and_every_command_composes() -> None:
    text = (ROOT / "docs" / "abilities.md").read_text()
    for task in TASKS:
        assert f"**{task}**" in text, task
    for line in text.split("```sh")[1].split("```")[0].splitlines():
        words = line.split("#")[0].split()
        if words[2:3] == ["lra"]:
            chosen = {word.split("=")[0]: word.split("=", 1)[1].split(",")[0] for word in words[3:]}
            compose.config([f"{key}={value}" if "[" not in value else f"{key}=[128]" for key, value in chosen.items()])


def test_rows_and_fingerprints_tell_options_apart() -> None:
    assert Recall(pairs=4, form="adjacent").row == "recall-pairs4-adjacent"
    assert TASKS["needle"](max_len=64, profile=True).row == "needle-64-profile"
    assert TASKS["flipflop"](tested=[0.8, 0.1]).row == "flipflop-tested0.8x0.1"
    for name, cls in TASKS.items():
        prints = [cls(**o).fingerprint() for o in ({}, {"seed": 1}, {"sizes": (10, 10)}, *OTHER[name])]
        assert len(set(prints)) == len(prints)
    assert Recall(noise=0).fingerprint() == Recall(noise=0.0).fingerprint()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("recall", {"pairs": 0}, "task.pairs: 0 is not a whole number from 1 to 4096"),
        ("recall", {"pairs": True}, "task.pairs: True is not a whole number"),
        ("recall", {"pairs": 17}, "task.pairs: 17 is not at most task.keys, 16"),
        ("recall", {"noise": 1.0}, "task.noise: 1.0 is not a number from 0.0 to 0.95"),
        ("recall", {"noise": "much"}, "task.noise: 'much' is not a number"),
        ("recall", {"noise": 0.95, "mode": "replace"}, "task.noise: 0.95 leaves no pair of 8"),
        ("recall", {"form": "pairs"}, "task.form: 'pairs' is not one of joint, adjacent"),
        ("recall", {"updates": 9}, "task.updates: 9 is not at most the number of pairs, 8"),
        ("recall", {"fuzzy": 2}, "task.fuzzy: 2 is for task.form=adjacent and task.updates=0"),
        ("recall", {"fuzzy": 3, "values": 2, "form": "adjacent"}, "task.fuzzy: 3 is not at most"),
        ("recall", {"max_len": 23}, "task.max_len: 23 leaves no room for these pairs and queries; 24 do"),
        ("recall", {"sizes": [1, 2, 3]}, "task.sizes"),
        ("recall", {"sizes": [0, 2]}, "task.sizes"),
        ("recall", {"seed": -1}, "task.seed: -1 is not a whole number from 0"),
        ("needle", {"max_len": 1}, "task.max_len: 1 leaves no room"),
        ("needle", {"profile": "yes"}, "task.profile: 'yes' is not one of False, True"),
        ("shift", {"by": 64}, "task.by: 64 is not below task.max_len, 64"),
        ("select", {"marked": 33}, "task.marked: 33 is not at most half of task.max_len, 64"),
        ("compress", {"max_len": 1}, "task.max_len: 1 leaves nothing to read"),
        ("flipflop", {"tested": []}, "task.tested: [] names no probability"),
        ("flipflop", {"tested": [0.8, 1.0]}, "task.tested: 1.0 is not a number from 0.0 to 0.999"),
        ("flipflop", {"max_len": 1}, "task.max_len: 1 "),
        ("state", {"group": "z4"}, "task.group: 'z4' is not one of parity, z3"),
        ("state", {"asked_from": 1.0}, "task.asked_from: 1.0 asks nothing"),
        ("hops", {"max_len": 31}, "task.max_len: 31 leaves no room for these links and queries; 32 do"),
        ("brackets", {"max_len": 65}, "task.max_len: 65 is not an even number of at least 6"),
        ("texture", {"max_len": 64}, "task.max_len: 64 is not the length of 4 tiles and a copy, 80"),
        ("texture", {"side": 3}, "task.side: 3 is not even"),
        ("memorise", {"max_len": 1}, "task.max_len: 1 "),
    ],
)
def test_bad_options_are_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        TASKS[name](**options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
