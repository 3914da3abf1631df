"""What a search measures and keeps, and the words that it is asked by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra.errors import UserError
from lra.measure.cost import failure
from lra.record.record import digest_of
from lra.search import bench, child, run, shelf
from lra.search.asked import asked
from lra.search.found import Counted
from lra.search.space import Point, Shape, grid
from lra.settings.typed import plain
from tests.help.searched import SMALL, Law, searching, small


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
