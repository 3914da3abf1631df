"""A results folder made up from a few formulas: thirteen models, five tasks, floors, failures. No torch."""

from __future__ import annotations

import math
import random
from pathlib import Path

from lra.record import record, store

# name: (exponent of time, of memory, speed at 1024 relative to the first, skill)
MODELS = {
    "transformer": (1.8, 1.1, 1.0, 0.55),
    "bigbird": (1.02, 1.0, 0.62, 0.50),
    "linear": (1.0, 1.0, 1.9, 0.35),
    "linformer": (1.0, 1.0, 1.7, 0.38),
    "local": (1.0, 1.0, 1.5, 0.30),
    "longformer": (1.01, 1.0, 0.8, 0.47),
    "nystromformer": (1.0, 1.0, 1.1, 0.52),
    "performer": (1.0, 1.0, 1.2, 0.40),
    "reformer": (1.05, 0.7, 0.3, 0.45),
    "sinkhorn": (1.0, 1.0, 1.25, 0.42),
    "sparse": (1.3, 1.0, 0.75, 0.44),
    "synthesizer": (1.9, 1.8, 1.15, 0.33),
    "transformer_xl": (1.4, 1.2, 0.5, 0.48),
}
# row: (chance, reach, test items, local floor, other floors)
TASKS = {
    "listops": (0.1, 0.6, 2000, {"majority": 0.17, "first_operator": 0.24}, {"depth_1": 0.31, "depth_2": 0.45}),
    "text-512-test1000": (0.5, 0.35, 1000, {"majority": 0.5, "unigrams": 0.71}, {"bigrams": 0.78}),
    "retrieval_acl-512": (0.5, 0.3, 1000, {"majority": 0.5, "tfidf": 0.66}, {}),
    "image_jpeg-4000": (0.1, 0.4, 1000, {"majority": 0.1, "linear_pixels": 0.25}, {}),
    "pathfinder-3000images": (0.5, 0.1, 300, {"majority": 0.5}, {"disc_places": 0.61}),
}
MACHINE = {"device": "cpu", "name": "Example CPU", "cpu": "Example CPU", "cores": 2, "threads": 1}


def records(folder: Path, models: int = 13, tasks: int = 5, seeds: int = 2, failures: bool = True) -> Path:
    """Write the records of that many models and tasks below `folder`; several seeds for the first task only."""
    draw, count = random.Random(0), 0
    for t, (row, (chance, reach, items, local, other)) in enumerate(list(TASKS.items())[:tasks]):
        task = row.split("-")[0]
        common = {"task": task, "row": row, "budget": "quick", "data": {"fingerprint": f"data of {row}"}}
        for name, accuracy in (local | other).items():
            count += 1
            write(folder, count, **common, model=name, kind="floor", accuracy_test=accuracy, items_test=items,
                  local=name in local, config_hash="f" * 16)  # fmt: skip
        for m, (name, (_, _, speed, skill)) in enumerate(list(MODELS.items())[:models]):
            quirk = draw.uniform(0.8, 1.2)
            for seed in range(seeds if t == 0 else 1):
                count += 1
                reached = round(chance + reach * skill * (quirk + draw.uniform(-0.01, 0.01)), 4)
                curve = [
                    {
                        "step": step,
                        "train_loss": round(2.3 - reached * step / 1000, 4),
                        "valid_loss": round(2.4 - reached * step / 1000, 4),
                        "valid_accuracy": round(chance + (reached - chance) * (1 - math.exp(-step / 300))
                                                + draw.gauss(0, 0.01), 4),
                        "seconds": step / 20,
                    }
                    for step in range(100, 1100, 100)
                ]  # fmt: skip
                cost = {
                    "status": "ok",
                    "step_peak_bytes": int(5e7 * (1 + m % 5)),
                    "train": {"examples_per_second": round(30 * speed * 0.9**t, 3)},
                    "inference": {"examples_per_second": round(90 * speed * 0.9**t, 3)},
                }
                values = {"accuracy_test": reached, "items_test": items, "curve": curve, "cost": cost}
                if failures and name == "synthesizer" and t == 2:
                    values = {"status": "oom", "reason": "needs 20 GiB", "cost": {"status": "oom"}}
                if failures and name == "linear" and t == 4:
                    values |= {"status": "diverged", "reason": "loss is nan", "accuracy_test": None, "curve": curve[:3]}
                write(folder, count, **common | values, model=name, seed=seed, parameters=150_000 + 1000 * m,
                      config_hash=f"{m:016x}")  # fmt: skip
    return folder


def write(folder: Path, count: int, **values: object) -> None:
    base = {
        "run_id": f"20260101T{count:06d}Z-00000000",
        "started_utc": "2026-01-01T00:00:00+00:00",
        "kind": "model",
        "status": "ok",
        "seed": 0,
        "config": {},
        "machine": MACHINE,
        "dtype": "float32",
    }
    store.write(folder, record.Record(**base | values))


def costs(folder: Path, models: int = 13, longest: int = 16384, batch: int = 4) -> Path:
    """Write the records of a cost sweep: power laws with a little noise, one model that does not fit at the end."""
    draw, count = random.Random(1), 0
    for m, (name, (slope, growth, speed, _)) in enumerate(list(MODELS.items())[:models]):
        for length in (256, 512, 1024, 2048, 3072, 4096, 8192, 16384):
            if length > longest:
                continue
            for mode, size in (("fixed", batch), ("largest", max(1, 65536 // length))):
                count += 1
                step = size * (0.002 + 0.02 / speed * (length / 1024) ** slope)
                fits = not (name == "synthesizer" and length >= 8192)
                cost = {
                    "mode": mode,
                    "sweep": "s",
                    "disturbed": name == "sparse" and length == 512,
                    "step_peak_bytes": int(size * 3e7 * (1 + m % 4) * (length / 1024) ** growth),
                    "train": timing(step, size, draw),
                    "inference": timing(0.3 * step, size, draw),
                }
                write(folder, 500_000 + count, kind="cost", task="text", row="text", model=name, budget="quick",
                      status="ok" if fits else "oom", reason=None if fits else "needs 20 GiB",
                      cost=cost if fits else {"mode": mode}, length=length, batch_size=size, config_hash=f"{m:016x}",
                      parameters=150_000)  # fmt: skip
    return folder


def timing(seconds: float, batch: int, draw: random.Random) -> dict[str, object]:
    times = sorted(seconds * math.exp(draw.gauss(0, 0.03)) for _ in range(5))
    return {
        "examples_per_second": batch / times[2],
        "seconds_median": times[2],
        "seconds_min": times[0],
        "seconds_iqr": times[3] - times[1],
        "cpu_seconds_median": times[2],
        "steps": 5,
        "seconds": times,
    }
