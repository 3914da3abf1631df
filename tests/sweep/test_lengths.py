"""A sweep of cost points, with made-up measurements: the real ones are in tests/measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra import ceilings, results
from lra.cost.growth import repeats
from lra.machine import memory
from lra.measure.cost import Cost, Timing, failure, rates
from lra.record import store
from lra.settings import compose, words
from lra.settings.schema import Settings
from lra.settings.typed import plain, typed
from lra.sweep import points
from lra.sweep.largest import largest
from lra.sweep.lengths import measured, order
from lra.sweep.points import Bench, Point
from tests.help import tiny

Models = dict[str, Settings]
Log = list[tuple[str, int, int]]  # model, length, batch size of each measurement


def fake(log: Log) -> Any:
    """1 ms a token (a second a token for "performer"), 1 MiB and 1 KiB an example and token."""

    def measure(config: dict[str, Any], timeout: float) -> Cost:
        name, length, size = config["choices"]["model"], config["task"]["max_len"], config["measure"]["batch_size"]
        log.append((name, length, size))
        seconds = length * (1.0 if name == "performer" else 1e-3)
        if seconds > timeout:
            return failure("timeout", "slow")
        found = rates([Timing(seconds, seconds)] * 5, size, size * length)
        sizes = {"batch_size": size, "resident_bytes": 2**20, "parameters": 2**18}
        return Cost("ok", **sizes, step_peak_bytes=2**20 + 2**10 * length * size, train=found, inference=found)

    return measure


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    calls: Log = []
    alone = fake(calls)
    monkeypatch.setattr(points, "measure", alone)
    monkeypatch.setattr(points, "together", lambda configs, timeout, _: [alone(c, timeout) for c in configs])
    monkeypatch.setattr(ceilings, "fresh", lambda *_: {"gemm_float32_flops_per_second": 1e9})
    return calls


@pytest.fixture(scope="module")
def composed() -> Models:
    words = ["task=text", "sweep=cost", "device=cpu", "threads=1"]
    return {m: compose.config([*words, f"model={m}"]) for m in ("transformer", "linear", "performer")}


def sweep(folder: Path, models: Models, names: list[str], rerun: str = "no", **cost: Any) -> bool:
    """What Hydra's callback calls, with `cost` changed."""
    chosen = {
        name: replace(models[name], results_dir=str(folder), rerun=rerun, cost=replace(models[name].cost, **cost))
        for name in names
    }
    return measured(chosen)


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
    tmp_path: Path, composed: Models, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["transformer", "linear"]
    assert sweep(tmp_path, composed, both, lengths=[1024, 2048]) and len(log) == 4
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024, 2048, 3072]) and {n for _, n, _ in log} == {3072}
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024]) and not log
    assert "2 recorded before" in capsys.readouterr().out
    assert sweep(tmp_path, composed, both, lengths=[1024], rerun="all") and len(log) == 2
    log.clear()
    assert sweep(tmp_path, composed, both, lengths=[1024], batch_size=2) and {size for *_, size in log} == {2}


def test_what_is_too_much_is_a_point_and_ends_its_curve(tmp_path: Path, composed: Models, log: Log) -> None:
    lengths = [64, 128, 256, 512]
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=100)
    found = {r.length: r for _, r in store.find(tmp_path)}
    assert {n: r.status for n, r in found.items()} == {64: "ok", 128: "timeout", 256: "timeout", 512: "timeout"}
    assert all(r.reason for n, r in found.items() if n > 64)
    log.clear()
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=100) and not log
    assert sweep(tmp_path, composed, ["performer"], lengths=lengths, point_seconds=200)
    assert ("performer", 128, 1) in log and ("performer", 64, 1) not in log


def test_a_failure_is_tried_again(tmp_path: Path, composed: Models, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    works = points.together
    monkeypatch.setattr(points, "together", lambda configs, *_: [failure("failed", "boom") for _ in configs])
    assert not sweep(tmp_path, composed, ["linear"], lengths=[64])
    monkeypatch.setattr(points, "together", works)
    assert sweep(tmp_path, composed, ["linear"], lengths=[64]) and len(log) == 1
    assert [r.status for _, r in store.find(tmp_path)] == ["failed", "ok"]


def test_sizes_that_do_not_fit_are_refused(
    tmp_path: Path, composed: Models, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    linear = composed["linear"]
    wrong = replace(linear, model={**linear.model, "heads": 3})
    assert not sweep(tmp_path, {"linear": wrong}, ["linear"], lengths=[64])
    assert "1 refused" in capsys.readouterr().out and not log and not list(store.find(tmp_path))


@pytest.mark.parametrize("other", [{"name": "CPU X"}, {"threads": 77}, {"memory_kept": None}])
def test_another_machine_is_another_curve(tmp_path: Path, composed: Models, log: Log, other: dict[str, Any]) -> None:
    memory.keep_freed()
    if not memory.kept and "memory_kept" in other:
        pytest.skip("the allocator is not glibc's: memory is given back either way")
    assert sweep(tmp_path, composed, ["linear"], lengths=[64])
    (path,) = tmp_path.rglob("*.json")
    raw = json.loads(path.read_text())
    raw["machine"] |= other
    path.write_text(json.dumps(raw))
    assert sweep(tmp_path, composed, ["linear"], lengths=[64]) and len(log) == 2


def test_the_largest_batch_is_found_and_recorded(tmp_path: Path, composed: Models, log: Log) -> None:
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
    def at(size: int) -> Cost:
        sizes = {"resident_bytes": 2**20, "step_peak_bytes": constant + each * size, "parameters": constant // 4}
        cost = Cost("ok", batch_size=size, **sizes)
        return cost if cost.total_bytes <= limit else failure("oom", "no")

    fits_ = [2**k for k in range(16) if at(2**k).ok]
    found = largest(at, limit, fixed, at(fixed) if known else None)
    assert found.batch_size == (max(fits_) if fits_ else None)
    assert found.status == ("ok" if fits_ else "oom")


def test_lengths_are_blocks_in_an_order_of_the_seed(composed: Models) -> None:
    models = dict(composed)
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
    models = {name: replace(settings, seed=1) for name, settings in models.items()}
    assert first != told()


def test_a_curve_is_what_shapes_the_cost(composed: Models) -> None:
    def curve_of(key: str = "seed", value: Any = 0, model: str = "linear") -> str:
        config = plain(composed[model])
        *parts, last = key.split(".")
        node = config
        for part in parts:
            node = node[part]
        node[last] = value
        return Point(typed(config), "x", 256, "fixed", 1).curve

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
        done = tiny.lra("sweep=cost", "cost.lengths=[4096]", "cost.modes=[fixed]", "rerun=all", *places)
        assert done.returncode == 0, done.stdout + done.stderr
    found = repeats(results.load(tmp_path).points)
    assert len(found) == len(words.choices("model")) and (found.peak_spread == 0).all()
    if found.disturbed.any():
        pytest.skip(f"the machine was not quiet: {', '.join(found.model[found.disturbed])}")
    assert (found.speed_spread < 0.05).all(), found[["model", "speed_spread"]]
