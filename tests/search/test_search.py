"""`python -m lra.search`: what is found, predicted and tried, where a law is in the place of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lra.errors import UserError
from lra.search import bench, run, scored
from lra.search.evolve import evolved
from lra.search.found import Candidate, Cost, Predicted, Search
from lra.search.predict import fitted, pace_of, parts_of_seconds, table_of
from lra.search.space import Point, Shape, Space
from lra.settings import compose
from tests.help.searched import Law, searching, small, told, within


def test_what_is_found_is_the_largest_within_the_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As enumeration has it, of each mixer; the command is of a run that has the shape; what is measured is kept."""
    law = Law()
    code, shapes, commands = told(capsys, searching(tmp_path, law))
    assert code == 0 and [s.model for s in shapes] == ["transformer", "linear"]
    for shape in shapes:
        within(shape, 6e-3, law.seconds)
        assert Point(shape, 64) in law.asked, "what is named was measured"
    settings = compose.config(commands[1])
    assert settings.model == small().space.settings(shapes[1]).model and settings.budget == "race"
    assert settings.model["mlp_dim"] == 2 * settings.model["dim"] == 2 * shapes[1].dim
    again = Law()
    assert told(capsys, searching(tmp_path, again)) == (0, shapes, commands) and again.asked == []


def test_a_stopped_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished blocks are kept, others asked for again."""
    monkeypatch.setattr(run, "blocks", lambda points: bench.blocks(points, 15))
    law = Law()

    def stopping(points: Sequence[Point], space: Space, seconds: float) -> dict[str, Any]:
        if law.asked:
            raise KeyboardInterrupt
        return law(points, space, seconds)

    with pytest.raises(KeyboardInterrupt):
        searching(tmp_path, stopping, None, 2.0**30).done()
    (kept,) = (tmp_path / "search" / "listops").glob("*.json")
    before = kept.read_bytes()
    left = searching(tmp_path, law, None, 2.0**30).todo
    assert len(left) == 25 and not set(left) & set(law.asked) and kept.read_bytes() == before


def test_a_shape_that_takes_more_than_predicted_gives_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of those that are not in the grid each takes twice as long as the law has it: none is named that does not keep
    the bound as measured."""
    grid = {p.shape for p in searching(tmp_path, Law()).grid}
    law = Law(surprise=lambda p: 1.0 if p.shape in grid else 2.0)
    what = searching(tmp_path, law)
    code, shapes, _ = told(capsys, what)
    assert code == 0 and shapes and set(law.asked) - set(what.grid), "some were tried"
    assert all(law.seconds(Point(shape, 64)) <= 6e-3 for shape in shapes)


def test_a_shape_is_worth_its_parameters_times_its_chance() -> None:
    shapes = [Shape("linear", depth, 16, 1) for depth in (1, 2, 3)]
    costs = {1: 8e-3, 2: 4e-3, 3: 1.0}
    search = Search(
        small(),
        lambda s: Candidate(s, 100 * s.depth, Cost(costs[s.depth], 1.0)),
        np.array([[1.0, 1], [0.7, 1], [2.0, 1], [0.5, 1]]),
        dict,
    )
    assert [search.worth(s) for s in shapes] == pytest.approx([50, 150, -1 / 6e-3])
    search.costs = {shapes[0]: Cost(5e-3, 1.0), shapes[1]: Cost(7e-3, 1.0), shapes[2]: None}
    assert [search.worth(s) for s in shapes] == pytest.approx([100, -4 / 6, float("-inf")])
    assert search.best("linear").shape == shapes[0] and search.next("linear", shapes) is None


def test_memory_is_weights_and_what_a_step_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law = Law()
    _, shapes, _ = told(capsys, searching(tmp_path, law, None, 250 * 2.0**10))
    assert len(shapes) == 2
    for shape in shapes:
        within(shape, 250 * 2**10, law.memory)
    again = searching(tmp_path, None)
    rows = again.measured(again.grid)
    predicted = Predicted(table_of(rows, pace_of(rows)), small().space, 64)
    for shape in {p.shape for p in again.grid}:
        cost, point = predicted(shape).predicted, Point(shape, 64)
        assert cost.memory == pytest.approx(law.memory(point), rel=0.05)
        assert cost.latency == pytest.approx(law.seconds(point), rel=0.05)


def test_bounds_that_nothing_meets_and_points_that_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    law = Law(bad=lambda p: p.shape.dim == 48)
    made = searching(tmp_path, law, 1e-6)
    assert made.done() == 1
    out = capsys.readouterr()
    assert "no shape of transformer, linear was found within the bounds" in out.out and "python -m lra" not in out.out
    assert "48 wide" in out.err and "oom: it is said to" in out.err
    again = searching(tmp_path, Law(), 1e-6)
    assert again.todo == [], "a failure is a row, and no gap"
    failed = searching(tmp_path, Law(), 1e-6, rerun="failed").todo
    assert failed and all(p.shape.dim == 48 for p in failed)
    for law, rerun in ((Law(), "failed"), (Law(bad=lambda p: True), "all")):
        anew = searching(tmp_path, law, 1e-6, rerun=rerun)
        assert {r["status"] for r in anew.measured(anew.grid)} == {"ok"} and law.asked, (
            "no failure stands over a success"
        )
    with pytest.raises(UserError, match="which is too few to predict from"):
        searching(tmp_path / "none", Law(bad=lambda p: True), 1e-3).done()


def test_a_slow_hour_is_no_slow_shape(tmp_path: Path) -> None:
    """One thread's seconds are those of its core, others' those of the clock, both at one pace."""
    what = searching(tmp_path, law := Law())
    points = what.grid[:6]
    rows = [
        {"key": str(p), **run.where(p), **row, "machine": {"threads": 1}}
        for p, row in zip(points, law(points, what.what.space, 1.0)["points"], strict=True)
    ]

    def even(rows: list[dict]) -> list[float]:
        return table_of(rows, pace_of(rows)).latency.tolist()

    assert even(rows) == pytest.approx([law.seconds(p) for p in points])
    slow = {k: [2 * s for s in rows[2][k]] for k in ("seconds", "core_seconds")} | {"paces": [50, 50, 50]}
    assert even([*rows[:2], rows[2] | slow, *rows[3:]]) == pytest.approx(even(rows))
    busy = [r | {k: [2 * s for s in r[k]] for k in slow if k != "paces"} | {"paces": [50, 50, 50]} for r in rows[1:]]
    assert even([*rows[:1], *busy]) == pytest.approx(even(rows)), "the pace is that of a machine left alone"
    two = [r | {"machine": {"threads": 2}} for r in rows]
    assert even(two) == pytest.approx([2 * law.seconds(p) for p in points])
    gpu = [r | {"paces": None, "machine": {"threads": 1}} for r in rows]
    assert even(gpu) == pytest.approx(even(two))
    halves = rows[0] | {"core_seconds": [1.0, 1.5, 1.5]}
    assert table_of([halves], 100.0)[["latency", "noise"]].to_numpy().tolist() == [[1.5, pytest.approx(1 / 3)]]


def test_the_predictor_knows_a_law_from_few() -> None:
    """Shapes of mixers that it has seen, each with a factor of its own; one that it has not by counts alone; and a row
    is predicted the same in any company."""
    draw = np.random.default_rng(0)
    sizes = pd.DataFrame(
        {k: draw.choice(v, 160) for k, v in {"depth": range(1, 7), "dim": range(32, 257, 32), "heads": (1, 2, 4),
                                             "length": (256, 512, 1024)}.items()}
    )  # fmt: skip
    table = sizes.assign(
        model=draw.choice(["a", "b"], 160),
        flops=2.0 * sizes.depth * sizes.length * sizes.dim**2,
        written=4.0 * sizes.depth * sizes.length * sizes.dim,
        ops=30.0 * sizes.depth + 5,
    )
    plain = 3e-11 * table.flops + 1e-10 * table.written + 1e-5 * table.ops
    target = (plain * table.model.map({"a": 1.0, "b": 3.0})).to_numpy()
    seen, new = table[:100], table[100:]
    predictor = fitted(seen, target[:100])
    guessed = predictor(new)
    assert scored.far(guessed, target[100:]) < 0.1 and scored.ranked(guessed, target[100:]) > 0.99
    assert np.allclose([predictor(new[i : i + 1])[0] for i in range(9)], guessed[:9])
    one, other = (table[table.model == name] for name in "ab")
    alone = fitted(one, target[table.model == "a"])(other)
    assert scored.far(3 * alone, target[table.model == "b"]) < 0.1
    odd = fitted(one, target[table.model == "a"] * one.heads.to_numpy())
    assert np.allclose(odd(other), parts_of_seconds(other) @ odd.weights), "of an unknown mixer nothing is made up"
    assert not np.allclose(odd(one), parts_of_seconds(one) @ odd.weights, rtol=0.1)


def test_what_is_held_out_is_not_seen() -> None:
    """Sizes with all their mixers and lengths, and whole mixers; the scores are those of numpy and scipy."""
    draw = np.random.default_rng(1)
    table = pd.DataFrame(
        [(m, d, w, 1, n) for m in "abc" for d in (1, 2, 3) for w in (8, 16, 32) for n in (64, 128)],
        columns=["model", "depth", "dim", "heads", "length"],
    )
    table["flops"], target = table.depth * table.dim * table.length * 1.0, draw.uniform(1, 2, len(table))
    seen: list[tuple[set, set]] = []

    def spy(part: pd.DataFrame, y: np.ndarray) -> Any:
        assert len(part) == len(y)

        def predict(rest: pd.DataFrame) -> np.ndarray:
            seen.append((set(part.itertuples(index=False)), set(rest.itertuples(index=False))))
            return np.arange(len(rest)) + 1.0

        return predict

    for masks, own in ((scored.by_shape(table), lambda r: r[1:4]), (scored.by_mixer(table), lambda r: r[0])):
        assert np.sum(masks, axis=0).tolist() == [1] * len(table)
        seen.clear()
        out = scored.held_out(table, target, masks, spy)
        assert not np.isnan(out).any() and len(seen) == len(masks) > 2
        for fitted_to, asked_for in seen:
            assert not {own(r) for r in fitted_to} & {own(r) for r in asked_for}
    found = scored.scores(table, target, spy)
    assert [(s.held_out, s.length, s.points) for s in found] == [
        (kind, n, 27) for kind in ("shapes", "a mixer") for n in (64, 128)
    ]
    flops = scored.held_out(table, target, scored.by_mixer(table), scored.of_flops)
    here = (table.length == 128).to_numpy()
    ranks = [pd.Series(v[here]).rank() for v in (flops, target)]
    assert found[3].flops_rank == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found[3].flops_error == pytest.approx(np.quantile(np.abs(flops[here] - target[here]) / target[here], 0.9))


def test_what_is_tried_is_what_most_is_hoped_of() -> None:
    worth = np.array([5.0, 4, 3, 2, 1])
    assert scored.tried(worth, np.array([0.1, 0.2, 0.9, 1, 1]), 0.0) == 2, "the product counts"
    assert scored.tried(worth, np.array([0.1, 0.2, 0.0, 1, 1]), 3.0) == 0, "and what is above the best alone"
    assert scored.tried(worth, np.array([0.0, 0, 0, 1, 1]), 2.0) is None is scored.tried(worth[:0], worth[:0], 0.0)
    sure, cost = np.ones(5), np.array([5.0, 4, 3, 2, 1])
    assert scored.chosen(worth, sure, cost <= 3) == 3, "what is too much is measured, and passed over"
    assert scored.chosen(worth, sure * (cost < 3), cost <= 3) == 2, "what had no chance was not tried"
    assert scored.chosen(np.arange(9.0), np.ones(9), np.arange(9) < 2, 6) == 0, "in so many tries"
    assert scored.chosen(np.arange(9.0), np.ones(9), np.arange(9) < 2, 8) == 1
    draw = np.random.default_rng(2)
    predicted, surprises, bound = draw.uniform(1, 2, (4, 2)), draw.uniform(0.5, 2, (7, 2)), np.array([1.5, 1.8])
    slow = [sum(p[0] * s[0] <= 1.5 and p[1] * s[1] <= 1.8 for s in surprises) / 7 for p in predicted]
    assert scored.chances(predicted, surprises, bound).tolist() == pytest.approx(slow) and 0 < sum(slow) < 4


def test_regret_is_what_choosing_by_the_prediction_costs() -> None:
    """None where predictions are right; where each of a size is said to take half of what it does, and others are
    right, what that size hides: of its own error nothing is known."""
    worth = np.arange(1.0, 13)
    cost = worth[:, None].repeat(2, 1)
    table = pd.DataFrame({"model": "a", "length": 8, "depth": range(12), "dim": 8, "heads": 1})
    assert scored.regrets(table, worth, cost, cost).tolist() == [0.0] * len(scored.BOUNDS)
    off = cost.copy()
    off[5] *= 10
    bounds = [np.quantile(worth, share) for share in scored.BOUNDS]
    best = [int(bound) for bound in bounds]
    lost = [1 / 6 if b == 6 else 0.0 for b in best]
    assert sum(map(bool, lost)) == 1
    for tries in (scored.TRIES, len(worth)):
        assert scored.regrets(table, worth, off, cost, tries).tolist() == pytest.approx(lost)
    one = np.hstack([cost, cost[::-1]])
    assert len(scored.regrets(table, worth, one, one)) < len(bounds), "each quantity has its bound"
    two = pd.concat([table, table.assign(model="b")])
    assert len(scored.regrets(two, *(np.concatenate([v, v]) for v in (worth, cost, cost)))) == 2 * len(bounds)


@pytest.mark.parametrize("most", [40, 2000])
def test_evolution_finds_what_enumeration_finds(most: int) -> None:
    choices = (range(1, 13), range(16, 513, 8), (1, 2, 4, 8))
    asked: list[tuple] = []

    def fits(s: tuple) -> bool:
        return s[1] % (4 * s[2]) == 0

    def worth(s: tuple) -> float:
        asked.append(s)
        cost = s[0] * (s[1] / 16) ** 1.5 + 3 * s[2]
        return float(s[0] * s[1] ** 2) if cost <= most else -cost / most

    found = evolved(choices, fits, worth, 0)
    looked = len(asked)
    whole = [s for d in choices[0] for w in choices[1] for h in choices[2] if fits(s := (d, w, h))]
    best = max(map(worth, whole))
    assert found[0][1] >= 0.95 * best > 0 and looked == len(found) == len(set(asked[:looked])) < len(whole) / 2
    assert all(fits(s) for s, _ in found) and [v for _, v in found] == sorted((v for _, v in found), reverse=True)
    if most == 40:
        assert evolved(choices, fits, worth, 0) == found
        few = (choices[0], choices[1][:12], choices[2])
        assert {s for s, _ in evolved(few, fits, worth, 0)} == {s for s in whole if s[1] in few[1]}
