"""Cost curves: fits and crossings of known curves, and the sweep that measures what is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from lra import ceilings
from lra.cost.growth import crossing, fits, relative, repeats
from lra.cost.points import curves, load
from lra.cost.table import summary
from lra.measure.session import failure
from lra.record import record, store
from lra.settings import compose, words
from lra.sweep.largest import largest, total
from lra.sweep.lengths import conduct, order
from lra.sweep.points import Bench, Point
from tests.help import tiny
from tests.record.test_record import example

Log = list[tuple[str, int, int]]  # model, length, batch size of each measurement
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)


def point(model: str, length: int, seconds: list[float], peak: int = 1000, **values: Any) -> record.Record:
    median = float(np.median(seconds))
    times = {
        "examples_per_second": 1 / median,
        "seconds_median": median,
        "seconds_min": min(seconds),
        "seconds_iqr": 0.0,
        "cpu_seconds_median": median,
        "seconds": seconds,
    }
    best = {"gemm_float32_flops_per_second": 1e9, "gemm_bf16_flops_per_second": 1e10, "copy_bytes_per_second": 1e6}
    cost = {
        "mode": "fixed",
        "train": times,
        "inference": times,
        "step_peak_bytes": peak,
        "train_flops": 10**6,
        "inference_flops": None,
        "ceilings": best,
        "disturbed": False,
        "sweep": "one",
    } | values.pop("cost", {})
    base = {"kind": "cost", "task": "text", "model": model, "length": length, "batch_size": 1, "dtype": "float32"}
    base |= {"machine": {"name": "CPU X", "threads": 2}, "config_hash": f"{model}{length}", "commit": "c"}
    return example(**base | values, cost=cost)


def written(folder: Path, *records: record.Record) -> pd.DataFrame:
    for r in records:
        store.write(folder, r)
    return load(folder)


def curve(model: str, scale: float, power: float, noise: float = 0.0, seed: int = 0) -> list[record.Record]:
    draw = np.random.default_rng(seed)
    out = []
    for n in LENGTHS:
        seconds = scale * n**power * np.exp(draw.normal(0, noise, 11))
        out.append(point(model, n, [float(s) for s in seconds], peak=8 * n))
    return out


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
    assert load(tmp_path / "nothing").empty and fits(load(tmp_path / "nothing")).empty


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
    table = load(tmp_path).query("model == 'b' and phase == 'train' and length >= 1024").sort_values("length")
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
    assert "never" in summary(points)


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
    one = curves(points).query("phase == 'train'")
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

    assert not modules_after("import lra.cost, lra.cost_table, lra.cost_sweep") & {"torch", "datasets"}


# The sweep, with made-up measurements: the real ones are in tests/test_measure.py.


def fake(log: Log) -> Any:
    """1 ms a token (a second a token for "performer"), 1 MiB and 1 KiB an example and token."""

    def measure(config: dict[str, Any], timeout: float) -> dict[str, Any]:
        name, length, size = config["choices"]["model"], config["task"]["max_len"], config["measure"]["batch_size"]
        log.append((name, length, size))
        seconds = length * (1.0 if name == "performer" else 1e-3)
        if seconds > timeout:
            return failure("timeout", "slow")
        found = point(name, length, [seconds] * 5, peak=2**20 + 2**10 * length * size).cost
        status = {"status": "ok", "reason": None, "batch_size": size, "resident_bytes": 2**20, "parameters": 2**18}
        return {k: v for k, v in found.items() if k not in ("mode", "ceilings", "sweep")} | status

    return measure


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    calls: Log = []
    alone = fake(calls)
    monkeypatch.setattr(cost_points, "measure", alone)
    monkeypatch.setattr(cost_points, "together", lambda configs, timeout, _: [alone(c, timeout) for c in configs])
    monkeypatch.setattr(ceilings, "fresh", lambda *_: {"gemm_float32_flops_per_second": 1e9})
    return calls


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    words = ["task=text", "sweep=cost", "device=cpu", "threads=1"]
    return {m: compose.config([*words, f"model={m}"]) for m in ("transformer", "linear", "performer")}


def sweep(folder: Path, models: dict[str, Any], names: list[str], **values: Any) -> bool:
    """What Hydra's callback calls, with `cost` and top-level options changed."""
    chosen = {name: models[name].copy() for name in names}
    for cfg in chosen.values():
        cfg.results_dir = str(folder)
        for key, value in values.items():
            (cfg if key == "rerun" else cfg.cost)[key] = value
    return conduct(chosen)


def by_hydra(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """`python -m lra sweep=cost`, in this process."""
    from lra.__main__ import main

    places = [f"results_dir={folder / 'results'}", f"output_dir={folder / 'out'}"]
    monkeypatch.setattr("sys.argv", ["lra", "sweep=cost", "device=cpu", "threads=1", *places, *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert by_hydra(tmp_path, monkeypatch, "model=transformer,linear", "cost.lengths=[1024,2048]") == 0
    assert sorted(log) == [(m, n, 1) for m in ("linear", "transformer") for n in (1024, 2048)]
    assert [n for _, n, _ in log] in ([1024, 1024, 2048, 2048], [2048, 2048, 1024, 1024])
    out = capsys.readouterr()
    assert "[4/4]" in out.err and "4 points" in out.out and "4 ok" in out.out and "time L^" in out.out
    (r,) = [r for _, r in store.find(tmp_path / "results", "text", "linear") if r.length == 2048]
    assert (r.kind, r.row, r.batch_size, r.status, r.cost["mode"]) == ("cost", "text-2048", 1, "ok", "fixed")
    assert r.cost["ceilings"] and r.config["task"]["max_len"] == 2048


@pytest.mark.parametrize(("word", "code"), [("cost.modes=[all]", 1), ("cost.memory_gib=1e6", 2), ("cost.x=1", 2)])
def test_bad_options_are_one_line(
    tmp_path: Path,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    code: int,
) -> None:
    assert by_hydra(tmp_path, monkeypatch, "model=linear", word) == code
    err = capsys.readouterr().err
    assert word.split("=")[0] in err.strip().splitlines()[-1] and "Traceback" not in err and not log


def test_a_sweep_measures_what_is_missing(
    tmp_path: Path, composed: dict[str, Any], log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["transformer", "linear"]
    assert sweep(tmp_path, composed, both, lengths=[1024, 2048]) and len(log) == 4
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024, 2048, 3072]) and {n for _, n, _ in log} == {3072}
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024]) and not log
    assert "2 recorded before" in capsys.readouterr().out
    assert sweep(tmp_path, composed, both, lengths=[1024], rerun=True) and len(log) == 2
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024], batch_size=2) and {size for *_, size in log} == {2}


def test_what_is_too_much_is_a_point_and_ends_its_curve(tmp_path: Path, composed: dict[str, Any], log: Log) -> None:
    lengths = [64, 128, 256, 512]
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=100)
    found = {r.length: r for _, r in store.find(tmp_path)}
    assert {n: r.status for n, r in found.items()} == {64: "ok", 128: "timeout", 256: "timeout", 512: "timeout"}
    assert all(r.reason for n, r in found.items() if n > 64)
    log.clear()
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=100) and not log
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=200)
    assert ("performer", 128, 1) in log and ("performer", 64, 1) not in log


def test_a_failure_is_tried_again(
    tmp_path: Path, composed: dict[str, Any], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = cost_points.together
    monkeypatch.setattr(cost_points, "together", lambda configs, *_: [failure("failed", "boom") for _ in configs])
    assert not sweep(tmp_path, composed, ["linear"], lengths=[64])
    monkeypatch.setattr(cost_points, "together", works)
    assert sweep(tmp_path, composed, ["linear"], lengths=[64]) and len(log) == 1
    assert [r.status for _, r in store.find(tmp_path)] == ["failed", "ok"]


def test_sizes_that_do_not_fit_are_refused(
    tmp_path: Path, composed: dict[str, Any], log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = composed["linear"].copy()
    wrong.model.heads = 3
    assert not sweep(tmp_path, {"linear": wrong}, ["linear"], lengths=[64])
    assert "1 refused" in capsys.readouterr().out and not log and not list(store.find(tmp_path))


def test_another_machine_is_another_curve(tmp_path: Path, composed: dict[str, Any], log: Log) -> None:
    assert sweep(tmp_path, composed, ["linear"], lengths=[64])
    (path,) = tmp_path.rglob("*.json")
    raw = json.loads(path.read_text())
    raw["machine"]["name"] = "CPU X"
    path.write_text(json.dumps(raw))
    assert sweep(tmp_path, composed, ["linear"], lengths=[64]) and len(log) == 2


def test_the_largest_batch_is_found_and_recorded(tmp_path: Path, composed: dict[str, Any], log: Log) -> None:
    more = {"lengths": [1024], "memory_gib": 0.02}
    assert sweep(tmp_path, composed, ["linear"], **more)
    sizes = {r.cost["mode"]: r.batch_size for _, r in store.find(tmp_path)}
    assert sizes == {"fixed": 1, "largest": 16}  # 2 MiB and 1 MiB an example, of 20.48 MiB
    assert [size for *_, size in log] == [1, 8, 16]
    log.clear()
    assert sweep(tmp_path, composed, ["linear"], **more) and not log


@given(
    each=st.integers(2**20, 2**28),
    constant=st.integers(0, 2**22),
    limit=st.integers(2**21, 2**34),
    fixed=st.sampled_from([1, 2, 32]),
    known=st.booleans(),
)
def test_the_largest_batch_is_that_of_a_search_through_all(
    each: int, constant: int, limit: int, fixed: int, known: bool
) -> None:
    def at(size: int) -> dict[str, Any]:
        cost = {"status": "ok", "resident_bytes": 2**20, "step_peak_bytes": constant + each * size, "size": size}
        cost["parameters"] = constant // 4
        return cost if total(cost) <= limit else failure("oom", "no")

    fits_ = [2**k for k in range(16) if at(2**k)["status"] == "ok"]
    found = largest(at, limit, fixed, at(fixed) if known else None)
    assert found.get("size") == (max(fits_) if fits_ else None)
    assert found["status"] == ("ok" if fits_ else "oom")


def test_lengths_are_blocks_in_an_order_of_the_seed(composed: dict[str, Any]) -> None:
    models = {name: cfg.copy() for name, cfg in composed.items()}
    bench = Bench(models["linear"])
    blocks = order(models, bench)
    lengths = [{p.length for p in block} for block in blocks]
    assert sorted(min(n) for n in lengths) == [256, 512, 1024, 2048, 3072, 4096, 8192, 16384, 65536]
    assert all(len(n) == 1 for n in lengths) and lengths != sorted(lengths, key=min)
    assert len({tuple(p.label for p in block) for block in blocks}) > 1

    def told() -> list[str]:
        return [str(p) for block in order(models, bench) for p in block]

    first = told()
    assert first == told()
    for cfg in models.values():
        cfg.seed = 1
    assert first != told()


def test_a_curve_is_what_shapes_the_cost(composed: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    def curve_of(key: str = "seed", value: Any = 0, model: str = "linear") -> str:
        cfg = composed[model].copy()
        OmegaConf.update(cfg, key, value)
        return Point(cfg, "x", 256, "fixed", 1).curve

    same = {"seed": 3, "train.steps": 9, "train.learning_rate": 0.5, "results_dir": "x", "task.max_len": 9}
    assert {curve_of(k, v) for k, v in same.items()} == {curve_of()}
    other = {"model.dropout": 0.5, "model.dim": 32, "train.grad_clip": 1.0, "compile": True, "measure.steps": 9}
    assert len({curve_of(), curve_of(model="performer"), *(curve_of(k, v) for k, v in other.items())}) == 7


def test_what_the_machine_does_at_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "SIZES", {"cpu": (256, 2**20)})
    monkeypatch.setattr(ceilings, "ROUNDS", 3)
    found = ceilings.ceilings("cpu")
    assert found["gemm_float32_flops_per_second"] > 1e8 and found["copy_bytes_per_second"] > 1e8
    assert found["gemm_bf16_flops_per_second"] > 0 and found["threads"] >= 1


@pytest.mark.slow
def test_two_sweeps_agree_at_4096(tmp_path: Path) -> None:
    """Relative speed within 5 %, step peak to the byte; on a quiet machine, as the records tell."""
    for _ in range(2):
        places = [f"results_dir={tmp_path}", f"output_dir={tmp_path / 'out'}"]
        done = tiny.lra("sweep=cost", "cost.lengths=[4096]", "cost.modes=[fixed]", "rerun=true", *places)
        assert done.returncode == 0, done.stdout + done.stderr
    found = repeats(load(tmp_path))
    assert len(found) == len(words.choices("model")) and (found.peak_spread == 0).all()
    if found.disturbed.any():
        pytest.skip(f"the machine was not quiet: {', '.join(found.model[found.disturbed])}")
    assert (found.speed_spread < 0.05).all(), found[["model", "speed_spread"]]
