"""Cost curves: fits and crossings of known curves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from lra.cost.growth import between_repeats, crossing, fits, relative, repeats
from lra.cost.points import newest
from lra.cost.table import as_table
from lra.record import record
from lra.results import load
from tests.help.made import LENGTHS, curve, example, point, written


def test_a_point_is_two_rows_with_its_shares(tmp_path: Path) -> None:
    failed = example(kind="cost", status="oom", reason="no", task="text", model="a", length=8, cost={"mode": "fixed"})
    points = written(tmp_path, point("a", 1024, [0.1, 0.2, 0.3], peak=5000), failed, example())
    assert len(points) == 4 and set(points.phase) == {"train", "inference"}
    train = points[(points.status == "ok") & (points.phase == "train")].iloc[0]
    assert (train.seconds_median, train.steps_per_second) == (0.2, 5.0)
    assert train.gemm_share == pytest.approx(1e6 / 0.2 / 1e9) and train.copy_share == pytest.approx(0.05)
    inference = points[(points.status == "ok") & (points.phase == "inference")].iloc[0]
    assert pd.isna(inference.step_peak_bytes) and pd.isna(inference.gemm_share)
    assert points[points.status == "oom"].seconds_median.isna().all()
    assert load(tmp_path / "nothing").points.empty and fits(load(tmp_path / "nothing").points).empty


def test_a_slow_hour_of_the_machine_is_not_a_slow_model(tmp_path: Path) -> None:
    """A step of `a` is half one of the transformer; it ran while the clock was a third slower and slowed down."""

    def measured(model: str, seconds: list[float], paces: list[float]) -> record.Record:
        times = point(model, 1024, seconds).cost["train"] | {"paces": paces}
        return point(model, 1024, seconds, cost={"train": times})

    points = written(
        tmp_path,
        measured("transformer", [0.2, 0.2, 0.2], [3e9, 3e9, 3e9]),
        measured("a", [0.15, 0.15, 0.15, 0.175, 0.2], [2e9, 2e9, 2e9, 1.5e9, 1.5e9]),
        point("old", 1024, [0.7]),
    )
    train = points[points.phase == "train"].set_index("model")
    assert train.steps_per_second["transformer"] / train.steps_per_second["a"] == pytest.approx(0.5)
    assert train.examples_per_second["a"] == pytest.approx(1 / train.seconds_median["a"])
    assert train.seconds_median["old"] == 0.7
    speeds = relative(points, (1024,)).set_index("model").relative_speed
    assert speeds["a"] == pytest.approx(2)


def test_exponents_of_power_laws(tmp_path: Path) -> None:
    found = fits(written(tmp_path, *curve("a", 1e-6, 1.3), *curve("b", 1e-8, 1.9, noise=0.1)))
    exact = found[(found.model == "a") & (found.phase == "train")].set_index("quantity")
    assert exact.exponent["time"] == pytest.approx(1.3) and exact.exponent["memory"] == pytest.approx(1.0)
    assert exact.high["time"] - exact.low["time"] == pytest.approx(0, abs=1e-6)
    assert (exact.from_length["time"], exact.to_length["time"]) == (1024, 16384)
    rough = found[(found.model == "b") & (found.phase == "train") & (found.quantity == "time")].iloc[0]
    table = load(tmp_path).points.query("model == 'b' and phase == 'train' and length >= 1024").sort_values("length")
    right = linregress(np.log(table.length), np.log(table.seconds_median))
    assert rough.exponent == pytest.approx(right.slope)
    assert rough.high - rough.exponent == pytest.approx(3.182446 * right.stderr)  # t, 3 degrees of freedom


def test_the_interval_of_an_exponent_covers() -> None:
    from lra.cost.growth import slope

    draw, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        found, half = slope(LENGTHS, 2e-6 * np.array(LENGTHS) ** 1.5 * np.exp(draw.normal(0, 0.05, len(LENGTHS))))
        hits += abs(found - 1.5) < half
    assert 0.93 < hits / 1000 < 0.97


def test_a_crossing_is_found_with_its_interval(tmp_path: Path) -> None:
    """T = 1e-9 L^2 and 3e-6 L meet at 3,000, in log coordinates exactly on a line."""
    points = written(tmp_path, *curve("transformer", 1e-9, 2, 0.05), *curve("a", 3e-6, 1, 0.05, seed=1))
    found = crossing(points).set_index("phase").loc["train"]
    assert found.side == "within" and found.length == pytest.approx(3000, rel=0.05)
    assert found.low < found.length < found.high and found.high < 1.2 * found.low
    exact = crossing(
        written(tmp_path / "exact", *curve("transformer", 1e-9, 2), *curve("a", 3e-6, 1), *curve("b", 1e-12, 1))
    ).set_index(["model", "phase"])
    assert exact.length["a", "train"] == pytest.approx(3000) and exact.low["a", "train"] == pytest.approx(3000)
    assert exact.side["b", "train"] == "below" and exact.length["b", "train"] == 256
    assert math.isnan(exact.low["b", "train"]) and exact.high["b", "train"] == 256


def test_overrides_are_of_the_model_or_of_the_conditions(tmp_path: Path) -> None:
    words = {"transformer": ["device=cpu", "size.depth=3"], "a": ["+model.mixer.x=1", "size.depth=3", "threads=1"]}
    points = written(tmp_path, *(point(m, 4096, [1.0], variant=v) for m, v in words.items()))
    assert set(points.model) == {"transformer", "a +model.mixer.x=1"} and set(points.budget) == {"quick size.depth=3"}
    assert relative(points).relative_speed.tolist() == [1.0, 1.0]


def test_no_crossing_is_null(tmp_path: Path) -> None:
    points = written(tmp_path, *curve("transformer", 1e-9, 2), *curve("a", 1.0, 1))
    found = crossing(points).iloc[0]
    assert found.side == "above" and found[["length", "low", "high"]].isna().all()
    assert "never" in as_table(points)


def test_a_lead_that_is_lost_again_does_not_count(tmp_path: Path) -> None:
    ratios = {256: 0.5, 512: 2.0, 1024: 0.5, 2048: 0.5}
    points = written(
        tmp_path, *(point(m, n, [r if m == "a" else 1.0]) for n, r in ratios.items() for m in ("transformer", "a"))
    )
    assert crossing(points).length.iloc[0] == pytest.approx(math.sqrt(512 * 1024))


def test_scatter_between_repeats_widens_the_interval(tmp_path: Path) -> None:
    rows = [*curve("transformer", 1e-9, 2), *curve("a", 3e-6, 1)]
    once = crossing(written(tmp_path / "once", *rows)).iloc[0]
    again = [*rows, *curve("transformer", 1.2e-9, 2), *curve("a", 2.7e-6, 1)]
    twice = crossing(written(tmp_path / "twice", *again)).iloc[0]
    assert once.high - once.low < 1e-6 and twice.high - twice.low > 100


def test_the_scatter_is_pooled_over_the_repeats_of_each_point_by_hand(tmp_path: Path) -> None:
    """Logs 0 and 0.2 of one point, 0, 0.3 and -0.3 of another, a third measured once: sqrt((0.02 + 0.18) / (1 + 2))."""
    rows = [point("a", 1024, [float(np.exp(log))]) for log in (0, 0.2)]
    rows += [point("a", 2048, [float(np.exp(log))]) for log in (0, 0.3, -0.3)]
    part = newest(written(tmp_path, *rows, point("a", 4096, [1.0]))).query("phase == 'train'")
    assert between_repeats(part) == pytest.approx((0.2 / 3) ** 0.5)
    assert between_repeats(part[part.length == 4096]) == 0


def test_only_points_of_one_group_are_compared(tmp_path: Path) -> None:
    points = written(
        tmp_path,
        point("transformer", 4096, [4.0], peak=400),
        point("a", 4096, [1.0], peak=100),
        point("a", 4096, [2.0], batch_size=2),
        point("a", 4096, [2.0], machine={"name": "CPU Y", "threads": 2}),
        point("a", 1000, [2.0]),
    )
    found = relative(points)
    mine = found[found.model == "a"].dropna(subset="relative_speed")
    assert mine[["relative_speed", "relative_memory"]].to_numpy().tolist() == [[4.0, 0.25]]
    assert len(found) == 4


def test_the_newest_configuration_and_commit_count(tmp_path: Path) -> None:
    points = written(
        tmp_path,
        point("a", 256, [9.0], commit="old", run_id="20250101T000000Z-a"),
        point("a", 256, [1.0], run_id="20250102T000000Z-a"),
        point("a", 256, [2.0], run_id="20250102T000000Z-b"),
        point("a", 256, [3.0], run_id="20250102T000000Z-c"),
    )
    one = newest(points).query("phase == 'train'")
    assert one.seconds_median.tolist() == [2.0] and one.repeats.tolist() == [3]


def test_repeats_tell_how_sweeps_agree(tmp_path: Path) -> None:
    rows = []
    for sweep, factor in (("one", 1.0), ("two", 1.1)):
        rows += [
            point("transformer", 4096, [2.0 * factor], cost={"sweep": sweep}),
            point("a", 4096, [1.0 * factor], cost={"sweep": sweep}),
            point("b", 4096, [1.0], peak=1000 + (sweep == "two"), cost={"sweep": sweep}),
        ]
    found = repeats(written(tmp_path, *rows)).set_index("model")
    assert found.speed_spread["a"] == pytest.approx(0) and found.speed_spread["b"] == pytest.approx(0.1)
    assert (found.peak_spread["a"], found.peak_spread["b"]) == (0, 1)


def test_tables_of_costs_need_no_torch() -> None:
    from tests.test_imports import modules_after

    assert not modules_after("import lra.cost.__main__, lra.cost.table") & {"torch", "datasets"}
