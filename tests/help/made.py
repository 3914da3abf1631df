"""Records and cost curves made up from formulas. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra import results
from lra.record import record, store
from lra.record.record import Record

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)


def example(**values: object) -> Record:
    started, run_id = store.new_id()
    base = {
        "run_id": run_id,
        "started_utc": started,
        "kind": "model",
        "status": "ok",
        "task": "listops",
        "model": "performer",
        "budget": "quick",
        "row": "listops",
        "seed": 0,
        "config": {"task": {"max_len": 8}},
        "config_hash": "0" * 16,
    }
    return Record(**base | values)


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
    base |= {
        "machine": {"device": "cpu", "name": "CPU X", "threads": 2},
        "config_hash": f"{model}{length}",
        "commit": "c",
    }
    return example(**base | values, cost=cost)


def written(folder: Path, *records: record.Record) -> pd.DataFrame:
    for r in records:
        store.write(folder, r)
    return results.load(folder).points


def curve(model: str, scale: float, power: float, noise: float = 0.0, seed: int = 0) -> list[record.Record]:
    draw = np.random.default_rng(seed)
    out = []
    for n in LENGTHS:
        seconds = scale * n**power * np.exp(draw.normal(0, noise, 11))
        out.append(point(model, n, [float(s) for s in seconds], peak=8 * n))
    return out
