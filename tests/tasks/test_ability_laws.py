"""The abilities: every quantity that is drawn, by its law."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import comb, log, log2

import numpy as np
import pytest

from lra.tasks.ability.base import Ability
from lra.tasks.ability.draw import Source, keys
from lra.tasks.ability.layout import distinct, strings
from tests.help.abilities import TASKS

N = 4000


def source(count: int = N) -> Source:
    return Source(keys(5, np.arange(count)))


def drawn(name: str, split: str = "train", **options: object) -> tuple[Ability, np.ndarray, np.ndarray]:
    """The task, and symbols (N, L) and labels (N, L) of its items."""
    task = TASKS[name](**options)
    items = task.split(split).drawn(np.arange(N if split == "train" else task.sizes[1]))
    return task, np.array(["", *task.symbols])[items.tokens], items.labels


def follows(counts: np.ndarray, law: np.ndarray | None = None) -> None:
    """Chi-squared within five standard deviations, of independent draws."""
    counts = np.asarray(counts, float).ravel()
    law = np.full(len(counts), 1.0) if law is None else np.asarray(law, float).ravel()
    expected = law / law.sum() * counts.sum()
    assert expected.min() > 5
    degrees = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < degrees + 5 * np.sqrt(2 * degrees) + 10


def share(hits: np.ndarray, probability: float) -> None:
    assert abs(hits.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / hits.size)


def counted(values: np.ndarray, high: int) -> np.ndarray:
    return np.bincount(np.asarray(values).ravel(), minlength=high)


def test_whole_numbers_orders_and_places() -> None:
    s = source(20_000)
    follows(counted(s.below("a", 3, 7), 7))
    pairs = s.below("a", 1, 5)[:, 0] * 5 + s.below("b", 1, 5)[:, 0]
    follows(counted(pairs, 25))  # two purposes are independent, and so are neighbours of one
    follows(counted(s.below("c", 2, 5) @ [5, 1], 25))
    share(s.happens("d", 10, 0.3), 0.3)
    assert not s.happens("e", 9, 0.0).any() and s.happens("e", 9, 1.0).all()
    orders = Counter(map(tuple, s.order("f", 4).tolist()))
    follows([orders[p] for p in permutations(range(4))])
    some = Counter(map(tuple, s.some("g", 2, 4).tolist()))
    follows([some[p] for p in permutations(range(4), 2)])
    limits = 2 + np.arange(20_000) % 3
    within = s.places_within("h", 2, limits)
    for limit in (2, 3, 4):
        here = Counter(map(tuple, within[limits == limit].tolist()))
        assert len(here) == comb(limit, 2) and all(0 <= a < b < limit for a, b in here)
        assert len(here) == 1 or follows(list(here.values())) is None


def test_strings_of_symbols() -> None:
    made = strings(source(20_000), "s", 1, 4, 3)[:, 0]
    assert all(len({*row[row >= 0]}) == (row >= 0).sum() for row in made)
    seen = Counter(tuple(row[row >= 0].tolist()) for row in made)
    for length in (1, 2, 3):
        follows([seen[p] for p in permutations(range(4), length)])
    follows([sum(n for p, n in seen.items() if len(p) == length) for length in (1, 2, 3)])
    several = distinct(source(5000), "t", 4, 4, 2)
    assert all(len(set(map(tuple, row))) == 4 for row in several.tolist())
    first = Counter(tuple(x for x in row[0] if x >= 0) for row in several.tolist())
    follows([first[(a,)] for a in range(4)])  # the first is any, whatever comes after


def test_needle() -> None:
    _, symbols, labels = drawn("needle", max_len=20, profile=True)
    is_needle = np.char.startswith(symbols, "needle")
    at = is_needle.argmax(1)
    assert (is_needle.sum(1) == 1).all()
    follows(counted(at, 19))
    follows(counted(labels[:, -1], 16))
    follows([(symbols == f"filler{i}").sum() for i in range(16)])
    distances = np.concatenate([np.flatnonzero(row[:-1] >= 0) - a for row, a in zip(labels, at, strict=True) if a < 4])
    counts = counted(distances, 16)[1:15]  # where all octaves up to 8 end within the length
    assert counts[0] == (at < 4).sum()
    for low in (2, 4):
        follows(counts[low - 1 : 2 * low - 1], [log2(1 + 1 / d) for d in range(low, 2 * low)])
        assert counts[low - 1 : 2 * low - 1].sum() == (at < 4).sum()


@pytest.mark.parametrize("form", ["joint", "adjacent"])
def test_recall(form: str) -> None:
    _, symbols, labels = drawn("recall", form=form, pairs=4, keys=6, values=5, queries=6, noise=0.5, max_len=40)
    wide = 1 if form == "joint" else 2
    head = symbols[:, : 8 * wide]
    noisy = np.char.startswith(head, "noise")
    assert (noisy.sum(1) == 4 * wide).all()
    follows([(head == f"noise{i}").sum() for i in range(16)])
    follows(noisy[:, ::wide].sum(0))
    parts = [tuple(s.removeprefix("k").split("v")) for s in head[~noisy].tolist()]
    ks = [p[0] for p in parts] if form == "joint" else [p[0] for p in parts[::2]]
    vs = [p[1] for p in parts] if form == "joint" else [p[1] for p in parts[1::2]]
    follows([ks.count(str(i)) for i in range(6)])
    follows([vs.count(str(i)) for i in range(5)])
    assert all(len(set(ks[i : i + 4])) == 4 for i in range(0, len(ks), 4))
    tail = symbols[:, 8 * wide :]
    asked = np.char.startswith(tail, "k")
    assert (asked.sum(1) == 6).all() and (tail[~asked] == "filler").all()
    follows(asked.sum(0))
    queries = tail[asked].reshape(N, 6)
    assert all(len(set(q)) == 4 for q in queries.tolist())
    follows([(queries[:, 0] == f"k{i}").sum() for i in range(6)])
    slots = np.array([[ks[4 * i : 4 * i + 4].index(q[1:]) for q in row] for i, row in enumerate(queries.tolist())])
    follows(counted(slots[:, 0], 4))
    follows(counted(slots, 4))
    shapes = Counter("".join(map(str, sorted(Counter(row).values()))) for row in slots.tolist())
    follows([shapes["1113"], shapes["1122"]], [1, 3])  # two more queries, each of any key
    assert (labels[:, : 8 * wide] < 0).all()


def test_recall_with_few_queries_and_with_updates() -> None:
    _, symbols, _ = drawn("recall", queries=3)
    asked = symbols[:, 8:]
    assert all(len({s for s in row if s != "filler"}) == 3 for row in asked.tolist())
    _, symbols, _ = drawn("recall", pairs=4, updates=2, values=4, queries=4)
    earlier = []
    for row in symbols[:, :6].tolist():
        writes = [s[1:].split("v") for s in row]
        twice = [k for k, n in Counter(k for k, _ in writes).items() if n == 2]
        assert len(twice) == 2 and len({k for k, _ in writes}) == 4
        for k in twice:
            old, new = (int(v) for key, v in writes if key == k)
            assert old != new
            earlier.append(old * 4 + new)
    follows(counted(np.array(earlier), 16).reshape(4, 4)[~np.eye(4, dtype=bool)])
    kinds = TASKS["recall"](pairs=4, updates=2, values=4, queries=4).split("train").drawn(np.arange(N))
    share(kinds.kinds[kinds.labels >= 0], 0.5)


@pytest.mark.parametrize("form", ["joint", "adjacent"])
@pytest.mark.parametrize("queries", [4, 9])
def test_recall_of_any_number_of_pairs(form: str, queries: int) -> None:
    """Log-uniform; each key that is shown is asked, as far as queries go, none that is not; places follow the pairs."""
    options = {"form": form, "pairs": 6, "keys": 7, "values": 3, "queries": queries, "max_len": 30, "fewest": 2}
    task = TASKS["recall"](**options)
    items = task.split("train").drawn(np.arange(N))
    _, symbols, labels = drawn("recall", **options)
    shown = np.char.find(symbols, "v") >= 0
    numbers = shown.sum(1)
    follows([(numbers == n).sum() for n in range(2, 7)], [log((n + 1) / n) for n in range(2, 7)])
    wide = 1 if form == "joint" else 2
    asked = labels >= 0
    assert (asked.sum(1) == queries).all()
    for row, n, at in zip(symbols[:500].tolist(), numbers[:500], asked[:500], strict=True):
        head = row[: n * wide]
        keys = [s[1:].split("v")[0] for s in head[::wide]]
        assert len(set(keys)) == n and all(s[0] == "k" for s in head[::wide])
        about = [s[1:] for s, a in zip(row, at, strict=True) if a]
        assert len(set(about)) == min(n, queries) and set(about) <= set(keys)
        assert all(a or s == "filler" for s, a in zip(row[n * wide :], at[n * wide :], strict=True))
    assert task.kinds == ("pairs 2", "pairs 4")
    assert (items.kinds[asked] == np.repeat(numbers >= 4, queries)).all()
    for n in (2, 6):
        follows(asked[numbers == n][:, n * wide :].sum(0))
    many = (numbers == 3) & (queries > 3)
    if many.any():
        first = np.array([labels[i][asked[i]][0] for i in np.flatnonzero(many)])
        follows(counted(first, 3))


def test_select() -> None:
    _, symbols, labels = drawn("select")
    marked = np.char.startswith(symbols[:, :56], "v")
    follows(marked.sum(0))
    follows(counted(labels[labels >= 0], 8))
    _, symbols, _ = drawn("select", placement="mad", max_len=256, marked=16)
    places = np.nonzero(np.char.startswith(symbols, "v"))[1].reshape(N, 16)
    assert (places[:, -1] == 239).all()
    j = np.arange(16)
    assert abs(places.mean(0) - (j + 224 * (j + 1) / 16)).max() < 0.7
    spread = np.sqrt(224 * (j + 1) / 16 * (15 - j) / 16)  # of a binomial; 7.5 at most
    assert abs(places.std(0) - spread).max() < 0.5


def test_flipflop() -> None:
    for split in ("train", "test"):
        task, symbols, _ = drawn("flipflop", split)
        for i, p in enumerate(task.tested):
            part = symbols[i::3, 1:-1] if split == "test" else symbols[:, 1:-1]
            p = p if split == "test" else 0.8
            share(np.char.startswith(part, "ignore"), p)
            share(part == "read", (1 - p) / 2)
            share(np.char.endswith(part[np.char.startswith(part, "ignore")], "1"), 0.5)
            share(np.char.endswith(symbols[:, 0], "1"), 0.5)
    asked = task.asked_kinds("test")
    assert task.kinds == ("ignore 0.8", "ignore 0.98", "ignore 0.1")
    follows(counted(asked, 3), [1 + 6.2, 1 + 0.62, 1 + 27.9])


def test_hops() -> None:
    _, symbols, _ = drawn("hops", hops=2, names=3, queries=4, max_len=12)
    assert (symbols[:, :6] != "filler").all()
    ahead = Counter()
    for row in symbols[:, :6].tolist():
        links = dict(s.split(">") for s in row)
        ahead[tuple(links[f"{k}:{a}"] for k in range(2) for a in range(3))] += 1
    follows(list(ahead.values()))
    assert len(ahead) == 36
    follows([(symbols[:, 0] == f"{k}:{a}>{b}").sum() for k in range(2) for a in range(3) for b in range(3)])
    queries = np.char.endswith(symbols, "?")
    assert (queries.sum(1) == 4).all()
    follows(queries[:, 6:].sum(0))
    follows([(symbols == f"{k}:{a}?").sum() for k in range(2) for a in range(3)])
    follows(counted(TASKS["hops"](hops=3, max_len=40).asked_kinds("test"), 4)[1:])


def test_brackets() -> None:
    _, symbols, labels = drawn("brackets", max_len=40, depth=3)
    opens = np.char.startswith(symbols, "open")
    follows([(symbols == f"open{i}").sum() for i in range(8)])
    depth = np.cumsum(np.where(opens, 1, -1), axis=1)
    before = np.concatenate((np.zeros((N, 1), int), depth[:, :-1]), axis=1)
    left = 40 - np.arange(40)
    free = (before > 0) & (before < 3) & (before < left)
    share(opens[free], 0.5)
    assert opens[before == 0].all() and not opens[before == 3].any() and not opens[before == left].any()
    follows(counted(labels[labels >= 0], 8))


def test_smooth() -> None:
    _, symbols, hidden = drawn("smooth")
    share(hidden[:, 0], 0.5)
    share(hidden[:, 1:] != hidden[:, :-1], 1 / 64)
    share((symbols == "1") != hidden, 0.35)
    _, symbols, hidden = drawn("smooth", switch=0.25, flip=0.1, max_len=20)
    share(hidden[:, 1:] != hidden[:, :-1], 0.25)
    share((symbols == "1") != hidden, 0.1)


def test_texture_shift_state_compress_and_memorise() -> None:
    task, symbols, labels = drawn("texture", grey=8)
    pixels = symbols[:, :64].reshape(N, 4, 16)
    follows([(pixels == f"pixel{i}").sum() for i in range(8)])
    shown = np.char.add("pixel", labels[:, 64:].astype(str))
    same = (pixels == shown[:, None]).all(2)
    assert (same.sum(1) == 1).all()
    follows(same.sum(0))
    for name, count in (("shift", 8), ("compress", 8), ("state", 2)):
        task, symbols, labels = drawn(name)
        first = "g" if name == "state" else "v"
        follows([(symbols == f"{first}{i}").sum() for i in range(count)])
    task, symbols, _ = drawn("memorise", facts=20, values=1000)
    follows([(symbols == f"k{i}").sum() for i in range(20)])
    assert len(set(task.map.tolist())) > 15 and (TASKS["memorise"](seed=1).map != TASKS["memorise"]().map).any()
    follows(counted(TASKS["memorise"](facts=5000, values=9).map, 9))


@pytest.mark.parametrize(
    ("name", "options", "law"),
    [
        ("needle", {"max_len": 9}, lambda t, i: len(t) - 1 - int(np.flatnonzero(t <= 16)[0])),
        ("state", {"max_len": 20, "asked_from": 0.0}, lambda t, i: i + 1),
    ],
)
def test_kinds_are_octaves(name: str, options: dict, law: object) -> None:
    task = TASKS[name](**options, sizes=(5, 50))
    items = task.split("test").all
    for tokens, labels, kinds in zip(*items, strict=True):
        for i in np.flatnonzero(labels >= 0):
            assert task.kinds[kinds[i]].split()[1] == str(1 << int(np.log2(law(tokens, i))))
