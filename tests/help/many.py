"""A results folder of tens of thousands of records, for what grows with their number.

    python -m tests.help.many FOLDER [20000]

Written without a look at the disk: lra.record.store sees every record to it, which would take minutes.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lra.record import record
from lra.record.answers import packed

ROWS = {  # row: (classes, test items)
    "listops": (10, 2000), "text": (2, 25000), "retrieval_acl-128": (2, 554), "retrieval_synth-256": (2, 1000),
    "image_jpeg": (10, 10000), "image": (10, 10000), "pathfinder": (2, 3000), "pathx": (2, 3000),
    "pathx256": (2, 3000), "mine-512": (4, 500),
}  # fmt: skip
MODELS = ["transformer", *(f"model_{i:02d}" for i in range(39))]
KEPT = 12  # models whose predictions are kept


def write(folder: Path, count: int = 20_000) -> Path:
    """`count` records: the seeds of each model on each row, floors, one run in fifty failed, one with overrides,
    a cost sweep. Their configuration is as long as a real one's."""
    draw = np.random.default_rng(0)
    labels = {row: draw.integers(0, classes, items).astype(np.uint8) for row, (classes, items) in ROWS.items()}
    template = next((Path(__file__).parents[2] / "results" / "runs" / "text" / "performer").glob("*.json"))
    config = json.loads(template.read_text())["config"]
    made = 0
    for made, (values, accuracy) in enumerate(runs(count)):
        task, model = values["row"].split("-")[0], values["model"]
        run_id = f"20260101T{made:012d}Z-{made:08x}"
        place = folder / "runs" / task / model
        place.mkdir(parents=True, exist_ok=True)
        if accuracy is not None and values["kind"] == "model":
            right = labels[values["row"]]
            wrong = draw.random(len(right)) > accuracy
            predictions = np.where(wrong, (right + 1) % ROWS[values["row"]][0], right)
            values |= {"accuracy_test": float((predictions == right).mean()), "items_test": len(right)}
            if model in MODELS[:KEPT]:
                content = packed(predictions, right)
                (place / f"{run_id}.predictions.npz").write_bytes(content)
                values["predictions"] = {
                    "file": f"{run_id}.predictions.npz",
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
        own = config | {"choices": {"task": task, "model": model}}
        entry = record.Record(run_id=run_id, started_utc="2026-01-01T00:00:00+00:00", task=task, config=own, **values)
        raw = dict(vars(entry))
        raw["digest"] = record.digest_of(json.loads(json.dumps(raw)))
        (place / f"{run_id}.json").write_text(json.dumps(raw, indent=1))
    return folder


def runs(count: int) -> Iterator[tuple[dict[str, Any], float | None]]:
    """(fields of a record, accuracy to aim at; null of a failure)."""
    draw = random.Random(1)
    machine = {"device": "cpu", "name": "Example CPU", "cores": 2, "threads": 1}
    base = {"status": "ok", "budget": "quick", "dtype": "float32", "machine": machine, "kind": "model"}
    for row, (classes, items) in ROWS.items():
        rule = {"kind": "floor", "model": "majority", "row": row, "seed": 0, "config_hash": "f" * 16, "local": True}
        rule |= {"accuracy_test": 1 / classes, "items_test": items, "data": {"fingerprint": f"data of {row}"}}
        yield base | rule | {"dtype": None, "machine": {}}, 1 / classes
    left = count - len(ROWS)
    seeds = -(-left // (len(ROWS) * len(MODELS)))
    for seed in range(seeds):
        for row, (classes, _) in ROWS.items():
            for m, model in enumerate(MODELS):
                if left == 0:
                    return
                left -= 1
                reached = 1 / classes + (1 - 1 / classes) * (0.2 + 0.015 * m + draw.uniform(-0.01, 0.01))
                curve = [{"step": s, "valid_accuracy": reached * s / 1000} for s in range(200, 1001, 200)]
                speed = {"examples_per_second": draw.uniform(30, 90)}
                cost = {"status": "ok", "step_peak_bytes": 2**26 + m * 2**22, "train": speed, "inference": speed}
                values = base | {"model": model, "row": row, "seed": seed, "config_hash": f"{m:016x}", "curve": curve}
                values |= {"cost": cost, "parameters": 150_000 + 1000 * m, "steps_budget": 1000, "length": 1024}
                values |= {"data": {"fingerprint": f"data of {row}"}, "batch_size": 32}
                if draw.random() < 0.02:
                    yield values | {"status": "oom", "reason": "needs 20 GiB", "cost": {"status": "oom"}}, None
                elif draw.random() < 0.002:
                    yield values | {"variant": ["train.steps=3"], "config_hash": "1" * 16}, 1 / classes
                else:
                    yield values, reached


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)
