"""A sweep over a setting leaves its figure and its table."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lra
from lra.errors import UserError
from lra.leaderboard import verify
from lra.plot import __main__ as plot
from lra.plot import chosen, over, style
from lra.record import record, store
from lra.sweep.callbacks import swept
from lra.sweep.job import Job

KEY = "model.mixer.features"


def put(folder: Path, number: int, words: list[str], seed: int = 0, **more: Any) -> None:
    cost = {"status": "ok", "train": {"examples_per_second": 100.0 + number}, "step_peak_bytes": (1 + number) * 2**20}
    said = {
        "run_id": f"2026010{1 + seed}T0000{number:02}Z-ab", "started_utc": "2026-01-01T00:00:00+00:00", "kind": "model",
        "status": "ok", "task": "listops", "model": "performer", "budget": "quick", "row": "listops", "seed": seed,
        "config": {"task": {"max_len": 2000}, "train": {"steps": number}}, "config_hash": "0" * 16, "variant": words,
        "accuracy_test": (20 + number + seed) / 100, "items_test": 2000, "parameters": 9, "dtype": "float32",
        "data": {"fingerprint": "f"}, "machine": {"name": "A", "device": "cpu", "threads": 1}, "cost": cost,
    }  # fmt: skip
    store.write(folder, record.Record(**said | more))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        put(tmp_path, 1, [f"{KEY}=64"], seed)
        put(tmp_path, 2, [], seed)  # the budget's own
    put(tmp_path, 3, [f"{KEY}=1024"])
    put(tmp_path, 4, [f"{KEY}=512", "size.dim=32"])
    put(tmp_path, 5, [f"{KEY}=4096"], status="oom", reason="too much", accuracy_test=None, items_test=None, cost={})
    return tmp_path


def test_an_exam_of_an_ability_has_its_figure_too(tmp_path: Path) -> None:
    key = "model.mixer.negative_eigenvalues"
    exam = {"exam": {"of": "recall", "title": "Recall", "order": 9, "averages": [], "asks": "a key"}}
    of = {"task": "recall", "row": "recall", "model": "deltanet", "config": exam | {"task": {"max_len": 128}}}
    put(tmp_path, 1, [], **of)
    put(tmp_path, 2, [f"{key}=true"], **of)
    found = lra.load(tmp_path)
    assert len(found.cells) == 0 and len(found.abilities) == 2
    table = over.ordered(over.found(found.select(model="delta*"), key))
    assert list(table.value) == ["false", "true"] and list(table.accuracy) == [0.21, 0.22]
    assert list(table.examples_per_second) == [101.0, 102.0]
    assert over.usual("model.mixer.conv_kernel", ["task=recall", "model=transformer"]) == "null"
    assert over.usual("model.mixer.conv", ["task=recall", "model=transformer"]) is None


def test_values_of_one_setting(results: Path) -> None:
    found = lra.load(results)
    table = over.ordered(over.found(found, KEY))
    usual = over.usual(KEY, ["task=listops", "model=performer"])
    assert list(table.value) == ["64", usual, "1024", "4096"] and set(table.model) == {"performer"}
    assert list(table.seeds) == [2, 2, 1, 0] and table.status.iloc[3] == "oom"
    assert table.accuracy.iloc[0] == pytest.approx(0.215) and (table.low < table.accuracy).iloc[:3].all()
    text = "\n".join(" ".join(line) for line in over.lines(table))
    assert "out of memory" in text and "21.50 %" in text
    files = over.written(table, KEY)
    assert len(files) == 5 and all(name.startswith("figures/over-model-mixer-features") for name in files)
    kept = pd.read_csv(io.BytesIO(files["figures/over-model-mixer-features.csv"]))
    assert list(kept[KEY]) == [64, int(usual), 1024, 4096]
    (light,) = (v for k, v in files.items() if k.endswith("float32.svg"))
    assert light == over.written(table, KEY)[next(k for k in files if k.endswith("float32.svg"))], "the same bytes"


def test_what_has_no_two_values_is_refused(results: Path) -> None:
    found = lra.load(results)
    for key, part in (("size.dim", found), ("model.mixer.feature", found), (KEY, found.select(variant="none"))):
        with pytest.raises(UserError, match=f"no model has two values of {key}"):
            over.found(part, key)
    with pytest.raises(UserError, match=r"Did you mean model\.mixer\.features"):
        over.found(found, "model.mixer.feature")


def test_the_settings_that_a_sweep_goes_over() -> None:
    def job(*words: str) -> Job:
        return Job(words, None, "listops", "linear", 0, "")

    jobs = [job("task=listops", "seed=0", "size.dim=8", "threads=1", "train.steps=2"),
            job("task=text", "seed=1", "size.dim=16", "threads=2", "train.steps=2")]  # fmt: skip
    assert swept(jobs) == ["size.dim"]


def test_of_a_choice_it_is_made_again_from_what_it_carries(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lra.plot", f"results_dir={results}", f"over={KEY}", *words])
        assert plot.main() == 0

    monkeypatch.setattr(style, "DPI", 30)  # the same bytes at any, and sooner
    run("--dry-run")
    assert "5 new" in capsys.readouterr().out and not (results / "figures").exists()
    run()
    run("variant=features=64,features=1024")
    made = verify.of_choices(lra.load(results), None)
    assert len(made) == 10 and not any(made.values()) and sum(p.name.startswith("chosen-") for p in made) == 5
    (table,) = (p for p in made if p.name.startswith("chosen-") and p.suffix == ".csv")
    assert chosen.carried(table) == [f"over={KEY}", "variant=features=64,features=1024"]
    assert set(pd.read_csv(table)[KEY]) == {64, 1024, 256}
    table.write_text(table.read_text().replace("1024", "1025"))
    for path in {*made} - {table}:  # to draw them all again would say nothing new
        path.unlink()
    assert [p for p, said in verify.of_choices(lra.load(results), None).items() if said] == [table]
    with pytest.raises(UserError, match="is no choice"):
        run("x=flops")


def test_speed_and_memory_are_of_the_machine_that_has_measured_most_of_it(results: Path) -> None:
    for number, value in ((6, "64"), (7, "1024"), (8, "2048"), (9, "4096"), (10, "8192")):
        there = {"machine": {"name": "B", "device": "cpu", "threads": 1}}
        there["config"] = {"task": {"max_len": 2000}, "train": {"steps": 1}}  # as that of 64 on A
        put(results, number, [f"{KEY}={value}"], seed=2, **there)
    for task in "pqrstuv":  # of which no more than one value is on record
        put(results, 2, [], row=task, task=task)
    found = lra.load(results)
    assert set(found.cells.timed) == {"A"}
    table = over.ordered(over.found(found, KEY)).set_index("value")
    assert set(table.timed) == {"B"} and table.examples_per_second["64"] == 106 and table.seeds["64"] == 3
    assert set(over.found(found.select(machine="A"), KEY).timed) == {"A"}
