"""Do abilities predict? Correlations by a second implementation, and a null that is found in 5 of 100 tables."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lra.leaderboard import files
from lra.leaderboard import predict as shown
from lra.leaderboard.view import boards
from lra.marks import about, predict
from lra.marks.capacity import Capacity
from lra.marks.predict import HYPOTHESES, found, interval, of_relatives, permuted, rho, weighted
from lra.results import load
from tests.help import synthetic, tiny

MODELS = [f"m{i:02}" for i in range(16)]
FAMILIES = {name: f"f{i // 3}" for i, name in enumerate(MODELS)}


def tables(seed: int = 0, truth: float = 3.0, models: int = 16) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells of a race and of abilities, of frames alone; `truth`: how much state says of listops."""
    draw = np.random.default_rng(seed)
    races, able = [], []
    for i, name in enumerate(MODELS[:models]):
        good = draw.normal()
        sequences = {
            "state": 1000 * np.exp(-good), "shift": 1000 * np.exp(draw.normal()),
            "smooth": np.inf if i % 3 == 0 else 500.0 + i,
        }  # fmt: skip
        kinds = {"recall_capacity": "pairs", "needle_1024": "distance"}
        for task in (*sequences, *kinds):
            value = float(draw.integers(1, 64))
            ends = (value, None, None) if value < 40 else (None, 32, None) if value < 60 else (None, None, 1)
            capacity = Capacity(ends[0], None, None, *ends[1:], of=kinds[task]) if task in kinds else None
            able.append((task, task, name, "ability", False, 1, sequences.get(task), capacity))
        for task in ("listops", "image_jpeg", "retrieval_acl", "pathfinder"):
            accuracy = 0.3 + 0.01 * (truth * good * (task == "listops") + draw.normal())
            races.append((task, task, name, "race", False, accuracy, np.exp(draw.normal())))
    columns = ["task", "row", "model", "budget", "variant"]
    return (
        pd.DataFrame(races, columns=[*columns, "accuracy", "relative_speed"]),
        pd.DataFrame(able, columns=[*columns, "seeds", "sequences", "capacity"]),
    )


def test_correlations_are_those_of_a_second_implementation() -> None:
    """Ranks by counting, over pairs; the p by shuffling models one draw at a time."""
    cells, able = tables()
    by_hypothesis = {f.hypothesis: f for f in found(cells, able, families=FAMILIES)}
    assert list(by_hypothesis) == list(HYPOTHESES)
    pairs = {}
    for h, f in by_hypothesis.items():
        own = able[able.task == h.of].set_index("model")
        if h.what == "sequences":
            x = -own.sequences.astype(float)
        else:
            x = own.capacity.map(placed_by_hand).astype(float)
        goal = cells[cells.task == h.predicts].set_index("model")
        y, speed = goal.accuracy, cells.groupby("model").relative_speed.median()
        pairs[h] = x[MODELS].to_numpy(float), y[MODELS].to_numpy(float)
        assert f.models == 16 and f.rho == pytest.approx(by_counting(*pairs[h]))
        assert f.speed == pytest.approx(by_counting(speed[MODELS].to_numpy(), pairs[h][1]))
        mates = [[y[m] for m in MODELS if m != n and FAMILIES[m] == FAMILIES[n]] for n in MODELS]
        known = [i for i, others in enumerate(mates) if others]
        family = np.array([np.mean(mates[i]) for i in known])
        assert f.family == pytest.approx(by_counting(family, pairs[h][1][known]))
        assert -1 <= f.low <= f.high <= 1
    draw, most = np.random.default_rng(5), []
    for _ in range(500):
        order = draw.permutation(16)
        most.append(max(spearmanr(x[order], y).statistic for x, y in pairs.values()))
    for h, f in by_hypothesis.items():
        expected = np.mean(np.array(most) >= by_counting(*pairs[h]) - 1e-9)
        assert f.p == pytest.approx(expected, abs=0.07), h
    assert by_hypothesis[HYPOTHESES[0]].p < 0.01 < by_hypothesis[HYPOTHESES[1]].p


def by_counting(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho: Pearson's of ranks, a rank being how many are less, and half of those that are equal."""
    a, b = ([sum((o < v) + 0.5 * (o == v) for o in values) for v in values] for values in (x, y))
    return float(np.corrcoef(a, b)[0, 1])


def placed_by_hand(found: Capacity) -> float:
    """A capacity beyond 32 to 63 is 64 among the others, one below 1 is 1."""
    return found.value if found.value is not None else {32: 64, None: 1}[found.beyond]


@pytest.mark.parametrize(
    ("count", "fewest", "most"), [(200, 3, 19), pytest.param(1000, 30, 70, marks=pytest.mark.slow)]
)
def test_a_null_is_significant_in_five_of_a_hundred_tables(count: int, fewest: int, most: int) -> None:
    """Sets of models that differ between the hypotheses, ties, relatives: shuffled, nothing is true of any."""
    draw, begin, significant = np.random.default_rng(1), time.process_time(), 0
    for seed in range(count):
        pairs = []
        shared = draw.normal(size=18)  # the abilities go together, and so do the exams
        goal = draw.normal(size=18)
        for _ in range(5):
            some = np.sort(draw.permutation(18)[: draw.integers(10, 19)])
            x = np.round(shared[some] + draw.normal(size=len(some)), 1)
            x[draw.random(len(some)) < 0.3] = -np.inf  # not learnt
            y = goal[some] + 0.5 * draw.normal(size=len(some))
            pairs.append((pd.Series(x, some), pd.Series(y, some)))
        significant += min(permuted(pairs, seed, count=199)) <= 0.05
    assert fewest <= significant <= most
    assert time.process_time() - begin < 20


def test_a_truth_among_four_others_is_found() -> None:
    hits = 0
    for seed in range(8):
        cells, able = tables(seed)
        first = found(cells, able, families=FAMILIES)[0]
        assert first.hypothesis is HYPOTHESES[0]
        hits += first.p < 0.05
    assert hits >= 7


def test_the_interval_is_over_families() -> None:
    """Relatives that are copies of one another are one observation: twins make it no narrower."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=12)
    y = x + draw.normal(size=12)
    alone = interval(x, y, np.arange(12))
    twins = interval(np.tile(x, 4), np.tile(y, 4), np.tile(np.arange(12), 4))
    apart = interval(np.tile(x, 4), np.tile(y, 4), np.arange(48))
    assert twins == pytest.approx(alone, abs=1e-9) and apart[1] - apart[0] < 0.7 * (alone[1] - alone[0])
    times = draw.integers(0, 4, (30, 12)) + (np.arange(12) < 2)
    y = np.round(y)  # with ties
    slow = [by_counting(np.repeat(x, n), np.repeat(y, n)) for n in times]
    np.testing.assert_allclose(weighted(x, y, times.astype(float)), slow, atol=1e-12)
    assert weighted(x, y, np.eye(12)[:1]) == 0
    assert rho(x, x) == pytest.approx(1) and rho(x, np.zeros(12)) == 0
    means = of_relatives(pd.Series([1.0, 2.0, 6.0, 9.0]), np.array(["a", "a", "a", "b"]))
    assert list(means[:3]) == [4.0, 3.5, 1.5] and np.isnan(means[3])


def test_of_fewer_than_ten_models_nothing_is_told() -> None:
    assert predict.FEWEST == 10 and len(found(*tables(models=10), families={})) == 5
    assert found(*tables(models=9), families={}) == []
    cells, able = tables()
    assert len(found(cells, able[able.task != "shift"], families=FAMILIES)) == 4
    assert found(cells.assign(budget="quick"), able, families=FAMILIES) == []
    assert found(cells, able.assign(variant=True), families=FAMILIES) == []
    assert found(cells, able.assign(seeds=0), families=FAMILIES) == []


def test_published_cells_are_a_table_of_their_own() -> None:
    cells, able = tables()
    rows = [("accuracy", "listops", name, 30.0 + i + table) for i, name in enumerate(MODELS) for table in (0, 0, 9)]
    ledger = pd.DataFrame(rows, columns=["kind", "task", "ours", "value"])
    (only,) = found(cells, able, ledger, FAMILIES)
    x = -able[able.task == "state"].set_index("model").sequences.astype(float)
    assert only.hypothesis is HYPOTHESES[0] and only.rho == pytest.approx(by_counting(x[MODELS], np.arange(16)))


def test_the_hypotheses_are_those_that_are_written_down() -> None:
    text = (tiny.ROOT / "docs" / "hypotheses.md").read_text()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    assert len(HYPOTHESES) == len(rows) <= 5
    for h, (of, what, predicts, printed) in zip(HYPOTHESES, rows, strict=True):
        assert of.split("`")[1] == h.of and what.startswith(h.what)
        assert (predicts, printed) == (f"`{h.predicts}`", f"`{h.printed}`")
    known = about.families()
    assert known["s4d"] == known["s5"] == "state-space" and len(set(known.values())) > 8


def test_a_table_is_shown_where_there_is_one(tmp_path: Path) -> None:
    """Of records: twelve models that have sat two abilities and one race."""
    levels = {"floor": 0.1, "ceiling": 1.0}
    common = {"accuracy_test": 0.99, "items_test": 50, "config_hash": "0" * 16}
    for i, name in enumerate(MODELS[:12]):
        for task, sequences in (("state", 100 + 64 * i), ("shift", 500 - 20 * (i % 5))):
            reached = [{"score": 0.98, "sequences": sequences, "core_seconds": 1.0}]
            score = {**levels, "test": 0.99, "learnt": True, "reached": reached, "on_valid": levels, "kinds": {}}
            own = {"task": task, "row": task, "model": name, "budget": "ability", "steps_budget": 1000, "batch_size": 1}
            synthetic.write(tmp_path, 100 * len(task) + i, score=score, **common | own)
        own = {"task": "listops", "row": "listops", "model": name, "budget": "race", "accuracy_test": 0.5 - 0.01 * i}
        synthetic.write(tmp_path, 900 + i, **common | own)
    found_here = load(tmp_path)
    (table,) = shown.tables(found_here)
    (line,) = table.lines
    assert (
        line[:3] == ("state, sequences -> listops", "12", "1.00") and float(line[4]) < 0.01 and line[5:] == ("-", "-")
    )
    given = files.files(boards(found_here), {}, predicted=[table])
    for name in ("leaderboard.md", "leaderboard.html"):
        text = given[name].decode()
        assert "Do abilities predict the race? float32" in text and "12" in text and "0.0001" in text
    for path in sorted((tmp_path / "runs" / "listops").glob("*/*.json"))[:3]:
        path.unlink()
    assert shown.tables(load(tmp_path)) == []
