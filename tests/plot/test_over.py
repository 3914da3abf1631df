"""A sweep over a setting leaves its figure and its table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lra
from lra.errors import UserError
from lra.plot import over
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
