"""`python -m lra.search`: a law in the place of the machine, so that what is right is known."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lra.errors import UserError
from lra.measure.cost import failure
from lra.record.record import digest_of
from lra.search import bench, child, run, scored, shelf
from lra.search.asked import Asked, Bounds, asked
from lra.search.evolve import evolved
from lra.search.found import Candidate, Cost, Counted, Predicted, Search
from lra.search.predict import fitted, pace_of, parts_of_seconds, table_of
from lra.search.space import Point, Shape, Space, grid
from lra.settings import compose
from lra.settings.typed import plain

SMALL = [
    "task=listops", "task.max_len=64", "task.min_length=3", "model=transformer,linear", "size.depth=1,2,3",
    "size.dim=16,24,32,48", "size.heads=1,2", "lengths=32", "shapes=10", "threads=1", "seconds=0.1",
]  # fmt: skip
FACTORS = {"transformer": 1.0, "linear": 1.7}


def made(shape: Shape, length: int) -> dict[str, int]:
    """What a step is made of, of layers that are alike."""
    pairs = length if shape.model == "transformer" else shape.dim // shape.heads
    parameters = shape.depth * (8 * shape.dim**2 + 9 * shape.dim) + 2 * shape.dim
    return {
        "flops": 2 * length * shape.depth * (8 * shape.dim**2 + 2 * shape.dim * pairs),
        "written": 40 * length * shape.depth * shape.dim,
        "ops": 10 + (30 if shape.model == "transformer" else 45) * shape.depth,
        "stack_parameters": parameters,
        "resident": 4 * (parameters + 80 * shape.dim),
    }


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the law, but for a test that undoes it."""
    monkeypatch.setattr(Counted, "of", lambda self, shape: made(shape, self.length))


class Law:
    """In the place of a process that measures: time is FLOPs and operations at a rate, times a factor a mixer. bad:
    points that cannot be measured. surprise: how much more a shape takes than the law has it."""

    def __init__(self, bad: Any = None, surprise: Any = None) -> None:
        self.asked: list[Point] = []
        self.bad, self.surprise = bad or (lambda p: False), surprise or (lambda p: 1.0)

    def seconds(self, p: Point) -> float:
        has = made(*p)
        return (1e-9 * has["flops"] + 2e-5 * has["ops"]) * FACTORS[p.shape.model] * self.surprise(p)

    def memory(self, p: Point) -> int:
        return 40 * p.length * p.shape.dim + made(*p)["resident"]

    def __call__(self, points: Sequence[Point], space: Space, seconds: float) -> dict[str, Any]:
        self.asked += points
        rows = []
        for p in points:
            if self.bad(p):
                rows.append({"status": "oom", "reason": "it is said to"})
                continue
            has = made(*p)
            core = [self.seconds(p)] * 3
            times = {"seconds": [2 * s for s in core], "core_seconds": core, "paces": [100, 100, 100]}
            size = {"parameters": 1, "peak_bytes": 40 * p.length * p.shape.dim, "resident_bytes": has["resident"]}
            rows.append({"status": "ok", "reason": None, **has, **size, **times})
        return {"points": rows, "conditions": {}}


def within(shape: Shape, bound: float, cost: Any) -> None:
    """Is it the largest of its mixer within a bound, which others keep, and others not?"""
    points = [Point(s, 64) for s in small().space.shapes if s.model == shape.model]
    good = [p for p in points if cost(p) <= bound]
    assert 3 < len(good) < len(points)
    assert made(shape, 64)["stack_parameters"] == max(made(*p)["stack_parameters"] for p in good)
    assert cost(Point(shape, 64)) <= bound


@cache
def small(*words: str) -> Asked:
    """Composed once."""
    return asked([*SMALL, "latency=6ms", *words])


def searching(
    folder: Path, law: Any, latency: float | None = 6e-3, memory: float | None = None, rerun: str = "no"
) -> run.Run:
    what = small()
    models = {m: replace(s, results_dir=str(folder), rerun=rerun) for m, s in what.space.models.items()}
    return run.Run(replace(what, bounds=Bounds(latency, memory), space=replace(what.space, models=models)), law)


def told(capsys: pytest.CaptureFixture[str], searching: run.Run) -> tuple[int, list[Shape], list[list[str]]]:
    """The exit code, and of each command that is named the shape and its words."""
    code = searching.done()
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(text)[3:] for text in lines if text.startswith("python -m lra ")]
    said = [dict(word.split("=", 1) for word in words) for words in commands]
    return code, [Shape(w["model"], *(int(w[f"size.{k}"]) for k in ("depth", "dim", "heads"))) for w in said], commands


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


@pytest.mark.parametrize("model", ["transformer", "linear"])
def test_layers_are_alike_and_attention_is_one_operation(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the law
    counted = [Counted(small().space, n) for n in (64, 256)]
    shape = Shape(model, 3, 32, 2)
    assert counted[0](shape) == counted[0].of(shape) and all(v > 0 for v in counted[0](shape).values())
    short, long = (c(shape._replace(depth=1)) for c in counted)
    assert long["ops"] == short["ops"] and (long["flops"] > 5 * short["flops"]) == (model == "transformer")
    weights = 4 * 2 * (256**2 - 4 * 64**2) if model == "transformer" else 0  # all else grows as the length
    assert abs(long["written"] - 4 * short["written"] - weights) < 0.02 * long["written"]


def test_the_grid_is_the_same_of_each_mixer_and_even(tmp_path: Path) -> None:
    space = small().space
    points = grid(space, (32, 64), 10, 0)
    assert points == grid(space, (32, 64), 10, 0) and len(points) == len(set(points)) == 40
    sizes = {p.shape.sizes for p in points}
    assert {(p.shape.model, p.shape.sizes, p.length) for p in points} == {
        (m, s, n) for m in space.models for s in sizes for n in (32, 64)
    }
    assert sizes <= set(space.sizes) and points != sorted(points)
    for i, values in enumerate((space.depth, space.dim, space.heads)):
        seen = [sum(s[i] == v for s in sizes) for v in values]
        assert max(seen) - min(seen) <= 3 and min(seen) > 0
    assert not space.fits((1, 24, 8)) and not space.fits((1, 16, 4)) and not space.fits((9, 16, 1))
    assert len(grid(space, (64,), 10_000, 0)) == len(space.shapes)


def test_what_is_kept_is_read_and_what_was_changed_is_not(tmp_path: Path) -> None:
    what = searching(tmp_path, law := Law())
    points = what.grid[:3]
    found = {"machine": what.machine, "dtype": "float32"} | law(points, what.what.space, 1.0)
    keys = [what.keys[p] for p in points]
    paths = [shelf.write(tmp_path, "listops", keys, points, found) for _ in range(3)]
    said: list[str] = []
    rows = shelf.read(tmp_path, "listops", said.append)
    assert len(rows) == 9 and said == [] and rows[0]["seconds"] == found["points"][0]["seconds"]
    assert len(shelf.here(rows, what.machine, "float32")) == 9
    assert shelf.here(rows, what.machine, "bf16") == shelf.here(rows, what.machine | {"threads": 3}, "float32") == []
    paths[0].write_text(paths[0].read_text().replace('"depth": ', '"depth": 1'))
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    (paths[0].parent / "other.json").write_text('{"points": 3}')
    assert len(shelf.read(tmp_path, "listops", said.append)) == 3 and len(said) == 3
    assert [k for k in said if "was changed after it was written" in k]
    assert len(set(keys)) == 3 and set(shelf.keys(what.what.space, (64,)).values()).isdisjoint(
        shelf.keys(what.what.space, (65,)).values()
    )


def test_what_others_have_written_is_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A digest says nothing of who wrote: what cannot be is passed over in a line, and a row is of what its key is."""
    what = searching(tmp_path, law := Law())
    points = what.grid[:2]
    found = {"machine": what.machine, "dtype": "float32"} | law(points, what.what.space, 1.0)
    path = shelf.write(tmp_path, "listops", [what.keys[p] for p in points], points, found)
    raw = json.loads(path.read_bytes())
    row = raw["points"][0]
    wrong = [
        {"machine": "mine"}, {"machine": 3}, {"dtype": []}, {"schema": 2}, {"points": {}}, {"points": [3]},
        *({"points": [row | more]} for more in (
            {"paces": ["a"] * 3}, {"paces": [1.0]}, {"paces": [-1, 1, 1]}, {"seconds": None},
            {"core_seconds": [1e301] * 3},
            {"core_seconds": [0.0] * 3}, {"flops": "many"}, {"peak_bytes": 0}, {"length": True}, {"key": 7},
            {"written": -1}, {"resident_bytes": None}, {"status": "failed", "reason": None}, {"status": "a\nb"},
        )),
    ]  # fmt: skip
    for i, more in enumerate(wrong):
        bad = raw | more
        (path.parent / f"wrong{i}.json").write_text(json.dumps(bad | {"digest": digest_of(bad)}))
    (path.parent / "deep.json").write_text("[" * 100_000)
    (path.parent / "large.json").write_text('{"points": [1e999]}')
    (path.parent / "link.json").symlink_to(path)
    lying = raw | {"points": [row | {"depth": 9, "model": "\x1b[2Jother", "length": 5}]}
    (path.parent / "zlying.json").write_text(json.dumps(lying | {"digest": digest_of(lying)}))
    again = searching(tmp_path, None)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(wrong) + 3 and all("passed over: " in line for line in said)
    assert len(again.rows) == 3 and {r["depth"] for r in again.rows} <= {p.shape.depth for p in points}
    assert again.rows[2] | run.where(points[0]) == again.rows[2] and len(again.todo) == 38


def test_a_process_that_is_lost_costs_its_own_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point(Shape("linear", 1, 16, 1), n) for n in (32, 48, 64)]
    space = small().space

    def child(configs: list[dict], seconds: float, most: float) -> Any:
        lengths = [c["length"] for c in configs]
        return (
            failure("oom", "gone") if 48 in lengths else {"points": [{"status": "ok", "n": lengths[0]}], "machine": {}}
        )

    monkeypatch.setattr(bench, "together", child)
    found = bench.block(points, space, 1.0)
    assert found["points"] == [
        {"status": "ok", "n": 32},
        {"status": "oom", "reason": "gone"},
        {"status": "ok", "n": 64},
    ]
    assert found["machine"] == {}


class Talk:
    """In the place of a channel: asks for turns, then for the answer."""

    def __init__(self, turns: int) -> None:
        self.left, self.heard = [{"steps": 2, "seconds": 0.01, "least": 1}] * turns, []

    def receive(self) -> Any:
        return self.left.pop() if self.left else None

    def send(self, word: Any) -> None:
        self.heard.append(word)


def measured_points() -> list[Point]:
    return [Point(Shape("linear", 1, 16, n), 32) for n in (1, 3)] + [Point(Shape("transformer", 2, 48, 2), 512)]


def seen_as(rows: Sequence[dict]) -> None:
    one, failed, other = rows
    assert failed["status"] == "failed" and "size.heads: 3 does not divide qkv_dim 16" in failed["reason"]
    for row in (one, other):
        assert row["status"] == "ok" and len(row["seconds"]) == len(row["paces"]) == len(row["core_seconds"]) >= 3
    assert np.median(other["core_seconds"]) > np.median(one["core_seconds"])
    assert other["peak_bytes"] > one["peak_bytes"]
    assert other["resident_bytes"] == other["resident"] and other["parameters"] > other["stack_parameters"]
    assert all(core <= 1.5 * wall for core, wall in zip(other["core_seconds"], other["seconds"], strict=True))


def test_points_are_measured_in_turns() -> None:
    """Two that can be, one that cannot, and one that takes too long."""
    configs = [{"settings": plain(small().space.settings(p.shape)), "length": p.length} for p in measured_points()]
    found = child.measured({"points": configs, "most": 60.0}, talk := Talk(3))
    seen_as(found["points"])
    assert talk.heard == ["ready"] * 4 and found["machine"]["threads"] == 1 and found["dtype"] == "float32"
    (late,) = child.measured({"points": configs[:1], "most": 0.0}, Talk(1))["points"]
    assert late["status"] == "timeout" and "a step takes" in late["reason"]


@pytest.mark.slow
def test_a_block_is_measured_in_a_process() -> None:
    found = bench.block(measured_points(), small().space, 0.05)
    seen_as(found["points"])
    assert found["machine"]["threads"] == 1 and min(len(r.get("seconds", "12345")) for r in found["points"]) >= 5


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("latency=20", "latency: '20' is not a number above 0 with a unit, us, ms, s, as latency=20ms"),
        ("latency=0ms", "latency: '0ms' is not a number above 0"),
        ("latency=-1s", "latency: '-1s' is not"),
        ("latency=20MiB", "latency: '20MiB' is not"),
        ("memory=64MB", "memory: '64MB' is not a number above 0 with a unit, KiB, MiB, GiB"),
        ("memory=much", "memory: 'much' is not"),
        ("size.dim=0,16", "size.dim: '0,16' is not a list of whole numbers of at least 1"),
        ("size.depth=", "size.depth: '' is not a list"),
        ("size.heads=64", "size.heads: 64 leave none of the widths"),
        ("shapes=3", "shapes: '3' is not a whole number from 4 to 10000"),
        ("shapes=4.5", "shapes: '4.5' is not a whole number"),
        ("seconds=0", "seconds: '0' is not a number from 0.01 to 600"),
        ("lengths=65", "lengths: 65 is above the 64 tokens of the task"),
        ("model=linaer", "model: 'linaer'"),
        ("model=swin", "model: swin reads rows and columns"),
        ("sweep=all", "sweep: is nothing that a search is told"),
        ("size.mlp_dim=3", "size.mlp_dim: is nothing that a search is told"),
        ("latnecy", "'latnecy' is not an option; write key=value, as latency=20ms Did you mean latency?"),
    ],
)  # fmt: skip
def test_a_wrong_word_gets_one_line(word: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        asked([*SMALL, "model=linear", "latency=1s", word])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_bounds_and_task_have_to_be_said() -> None:
    with pytest.raises(UserError, match="latency, memory: neither is said"):
        asked(SMALL)
    with pytest.raises(UserError, match="task: is not said"):
        asked([*SMALL[1:], "latency=1s"])
    what = asked([*(w for w in SMALL if not w.startswith("lengths")), "latency=2.5ms", "memory=64MiB", "model=linear"])
    assert (what.bounds.latency, what.bounds.memory) == (0.0025, 64 * 2**20)
    assert what.lengths == (16, 32, 64) and small().lengths == (32, 64)


def test_it_says_what_it_would_do(tmp_path: Path) -> None:
    said = searching(tmp_path, None, None, 2.0**26).ahead()
    assert "2 mixers x 10 shapes x 2 lengths (32, 64 tokens): 40 points to measure, 0 recorded; about" in said
    assert "within 64.0 MiB, up to 5 more of a mixer measured; nothing was run" in said
    assert not list(tmp_path.iterdir())
