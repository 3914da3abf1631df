"""Results folders with stored answers: models whose accuracy on simulated items is as asked. No torch."""

from __future__ import annotations

import hashlib
import io
import random
import zlib
from pathlib import Path

import numpy as np

from lra.record import record, store

MACHINE = {"device": "cpu", "name": "Example CPU", "cores": 2, "threads": 1}


def answers(row: str, items: int, accuracy: float, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(predictions, labels): the labels of a row are always the same; exactly round(accuracy * items) are right."""
    labels = np.random.default_rng(zlib.crc32(row.encode())).integers(0, classes, items)
    draw = np.random.default_rng(seed)
    wrong = draw.permutation(items)[round(accuracy * items) :]
    predictions = labels.copy()
    predictions[wrong] = (labels[wrong] + 1) % classes
    return predictions.astype(np.uint8), labels.astype(np.uint8)


def run(
    folder: Path,
    model: str,
    accuracy: float | None,
    row: str = "listops",
    seed: int = 0,
    items: int = 400,
    stored: bool = True,
    **values: object,
) -> record.Record:
    """Write the record of a run, with its answers beside it, as lra.runner does. None: it diverged."""
    started, run_id = store.new_id()
    base = {
        "run_id": run_id,
        "started_utc": started,
        "kind": "model",
        "status": "ok" if accuracy is not None else "diverged",
        "reason": None if accuracy is not None else "the loss is not a number at step 12",
        "task": row.split("-")[0],
        "row": row,
        "model": model,
        "budget": "quick",
        "seed": seed,
        "config": {},
        "config_hash": f"{zlib.crc32(model.encode()):016x}",
        "data": {"fingerprint": f"data of {row}"},
        "dtype": "float32",
        "machine": MACHINE,
        "parameters": 150_000,
        "steps_budget": 100,
        "batch_size": 8,
        "cost": {"status": "ok", "step_peak_bytes": 2**26, "train": {"examples_per_second": 50.0}},
    }
    content = None
    if accuracy is not None:
        base |= {"accuracy_test": round(accuracy * items) / items, "items_test": items}
        if stored:
            classes = 2 if row.startswith(("text", "retrieval", "path")) else 10
            key = zlib.crc32(f"{model} {row} {seed}".encode())
            predictions, labels = answers(row, items, accuracy, key, classes)
            buffer = io.BytesIO()
            np.savez_compressed(buffer, predictions=predictions, labels=labels)
            name, content = f"{run_id}.predictions.npz", buffer.getvalue()
            digest = hashlib.sha256(content).hexdigest()
            base["predictions"] = {"file": name, "sha256": digest, "items": items}
    made = record.Record(**base | values)
    if made.predictions and content is not None:
        store.write_once(store.folder(folder, made.task, made.model) / made.predictions["file"], content)
    store.write(folder, made)
    return made


def floor(folder: Path, name: str, accuracy: float, row: str = "listops", local: bool = True, **values: object) -> None:
    cost: dict = {}
    run(
        folder,
        name,
        accuracy,
        row,
        stored=False,
        kind="floor",
        local=local,
        dtype=None,
        machine={},
        cost=cost,
        **values,
    )


def whole(folder: Path, models: int = 13) -> Path:
    """Thirteen models on five exams, three seeds on the first; a failure of each kind, floors, an override."""
    draw = random.Random(0)
    rows = {"listops-128": (0.38, 2000), "text-512-test1000": (0.6, 1000), "retrieval_acl-512": (0.58, 900),
            "image_jpeg-test500": (0.3, 500), "pathfinder-3000images": (0.6, 300)}  # fmt: skip
    names = ["transformer", "bigbird", "linear", "linformer", "local", "longformer", "nystromformer", "performer",
             "reformer", "sinkhorn", "sparse", "synthesizer", "transformer_xl"]  # fmt: skip
    for t, (row, (middle, items)) in enumerate(rows.items()):
        for m, name in enumerate(names[:models]):
            for seed in range(3 if t == 0 else 1):
                lost = (name, t) in (("linear", 4), ("synthesizer", 2)) or (name, t, seed) == ("local", 0, 1)
                speed = {
                    "status": "ok",
                    "step_peak_bytes": 2**26 + m * 2**24,
                    "train": {"examples_per_second": 40.0 + 9 * m},
                }
                values: dict = {"parameters": 150_000 + 2_500 * m, "cost": speed}
                if (name, t) == ("synthesizer", 2):
                    values |= {"status": "oom", "reason": "needs 20 GiB of 16", "cost": {"status": "oom"}}
                run(folder, name, None if lost else middle + draw.uniform(-0.08, 0.08), row, seed, items, **values)
        floor(folder, "majority", 0.15 if middle < 0.5 else 0.5, row)
        floor(folder, "far_seeing", middle + 0.15, row, local=False)
    run(folder, "transformer", 0.2, "listops-128", variant=["train.steps=3"], config_hash="1" * 16)
    return folder
