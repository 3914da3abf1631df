"""Results folders with runs of ability exams: scores, ladders of learning rates, answers by sequence. No torch."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lra.record import record, store
from lra.record.answers import packed
from tests.help import answered

FLOOR, LIMIT, BATCH = 0.125, 2500, 64
SHORT = [0.0003, 0.001, 0.003, 0.01]


def answers(row: str, accuracy: float, seed: int, sequences: int = 150) -> tuple[np.ndarray, ...]:
    """(predictions, labels, clusters) of sequences with one to nine answers; each sequence has its own share right."""
    draw = np.random.default_rng(zlib.crc32(row.encode()))
    clusters = np.repeat(np.arange(sequences), draw.integers(1, 10, sequences))
    labels = draw.integers(0, 8, len(clusters))
    own = np.random.default_rng(seed)
    wide = min(accuracy, 1 - accuracy) * own.uniform(-1, 1, sequences)
    right = own.random(len(clusters)) < (accuracy + wide)[clusters]
    right = right if 0 < accuracy < 1 else np.full(len(clusters), accuracy == 1)
    return np.where(right, labels, (labels + 1) % 8), labels, clusters


def rung(rate: float, best: float, steps: int = LIMIT, ended: str | None = None) -> dict[str, Any]:
    """A rate of a ladder whose score on valid is best at the end."""
    accuracy = FLOOR + best * (1 - FLOOR)
    curve = {"step": [50, steps], "valid_loss": [2.0, 1.0], "valid_accuracy": [0.13, accuracy], "core_seconds": [1, 9]}
    return {"rate": rate, "steps": steps, "ended": ended, "curve": curve}


def ladder(scores: list[float], taken: int) -> list[dict[str, Any]]:
    """As successive halving leaves it: all but the one taken are dropped, or stopped once that has enough."""
    enough = scores[taken] >= 0.99
    return [
        rung(rate, s, 800 if enough else LIMIT if i == taken else 300, "enough" if enough and i == taken else "dropped")
        for i, (rate, s) in enumerate(zip(SHORT, scores, strict=True))
    ]  # fmt: skip


def run(
    folder: Path,
    model: str,
    level: float | None,
    row: str = "shift",
    seed: int = 0,
    sequences: int | None = 12_800,
    **values: Any,
) -> record.Record:
    """Write the record of a run with about that score, `level`, and its answers. None: it diverged."""
    values = {"budget": "ability", "steps_budget": LIMIT, "batch_size": BATCH, "config": CONFIG} | values
    if level is None:
        return answered.run(folder, model, None, row, seed, **values)
    predictions, labels, clusters = answers(row, FLOOR + level * (1 - FLOOR), own_seed(model, row, seed))
    accuracy = float((predictions == labels).mean())
    found = (accuracy - FLOOR) / (1 - FLOOR)
    learnt, content = found >= 0.98, packed(predictions, labels, clusters)
    name = f"{store.new_id()[1]}.predictions.npz"
    when = {"sequences": sequences, "core_seconds": sequences and sequences / 3200}
    never = dict.fromkeys(when)
    said = {
        "floor": FLOOR,
        "ceiling": 1.0,
        "on_valid": {"floor": FLOOR, "ceiling": 1.0},
        "test": found,
        "valid": found,
        "learnt": learnt,
        "reached": [{"score": s, **(when if learnt else never)} for s in (0.9, 0.98)],
        "kinds": {},
    }
    made = answered.run(
        folder, model, accuracy, row, seed, stored=False,
        **{"items_test": len(labels), "accuracy_test": accuracy, "score": said,
           "ladder": ladder([0.2, found, found - 0.1, 0.1], 1),
           "predictions": {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "items": len(labels)}} | values,
    )  # fmt: skip
    store.write_once(store.folder(folder, made.task, model) / name, content)
    return made


def capable(
    folder: Path,
    model: str,
    limit: float,
    row: str = "recall",
    seed: int = 0,
    word: str = "pairs",
    starts: tuple[int, ...] = (2, 4, 8, 16, 32),
    sequences: int = 300,
    **values: Any,
) -> record.Record:
    """A run whose answers are reported by octave of difficulty: right up to about `limit`, at the floor beyond."""
    draw, own = np.random.default_rng(zlib.crc32(row.encode())), np.random.default_rng(own_seed(model, row, seed))
    octave, clusters = draw.integers(len(starts), size=sequences), np.repeat(np.arange(sequences), 4)
    labels, kinds = draw.integers(0, 8, len(clusters)), octave[clusters]
    share = 1 / (1 + (np.array(starts) * 2**0.5 / limit / 1.2) ** 12)
    right = (own.random(sequences) < FLOOR + (1 - FLOOR) * share[octave])[clusters]
    predictions = np.where(right, labels, (labels + 1) % 8)
    content, name = packed(predictions, labels, clusters, kinds), f"{store.new_id()[1]}.predictions.npz"
    accuracy = float(right.mean())
    found = (accuracy - FLOOR) / (1 - FLOOR)
    apart = {
        f"{word} {first}": {"number": i, "accuracy": float(right[kinds == i].mean()), "items": int((kinds == i).sum())}
        for i, first in enumerate(starts)
    }
    levels = {"floor": FLOOR, "ceiling": 1.0}
    reached = [{"score": s, "sequences": None, "core_seconds": None} for s in (0.9, 0.98)]
    said = {**levels, "on_valid": levels, "test": found, "valid": found, "learnt": False, "reached": reached,
            "kinds": apart, "lengths": []}  # fmt: skip
    made = answered.run(
        folder, model, accuracy, row, seed, stored=False,
        **{"budget": "ability", "steps_budget": LIMIT, "batch_size": BATCH, "config": config(row.split("-")[0]),
           "items_test": len(labels), "score": said, "ladder": ladder([0.2, found, found - 0.1, 0.1], 1),
           "predictions": {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "items": len(labels)}} | values,
    )  # fmt: skip
    store.write_once(store.folder(folder, made.task, model) / name, content)
    return made


def own_seed(model: str, row: str, seed: int) -> int:
    return zlib.crc32(f"{model}{row}{seed}".encode())


CONFIG = {"exam": {"of": "shift", "title": "Shift", "order": 22, "averages": [], "asks": "fixed offset"}}
EXAMS = {
    "needle": "carry", "recall": "lookup", "recall-adjacent": "joined lookup", "shift": "fixed offset",
    "select": "ordered copy", "compress": "one state", "flipflop": "latch", "state": "running state",
    "state-s3": "noncommuting state", "hops": "chained lookup", "brackets": "stack", "smooth": "averaging",
}  # fmt: skip


# model -> row -> scores of its seeds
MANY: dict[str, dict[str, tuple[float | None, ...]]] = {
    "transformer": dict.fromkeys(EXAMS, (1.0, 1.0, 1.0)),
    "linear": {row: (1.0, 0.4, 0.3) if i % 3 else (1.0, None) for i, row in enumerate(EXAMS)},
    "nystromformer_of_mine": {row: (0.9,) if i % 2 else (0.0,) for i, row in enumerate(EXAMS)},
    "local": {"shift": (None,), "state": (0.02,)},
}


def config(row: str) -> dict[str, Any]:
    title = row.replace("-", " ").capitalize()
    exam = {"of": row, "title": title, "order": 20.0 + list(EXAMS).index(row), "averages": [], "asks": EXAMS[row]}
    return {"exam": exam}


def board(folder: Path, models: dict[str, dict[str, tuple[float | None, ...]]]) -> Path:
    """model -> row -> the scores of its seeds."""
    for model, rows in models.items():
        for row, scores in rows.items():
            for seed, score in enumerate(scores):
                after = 3200 * (2 + zlib.crc32(f"{model}{row}{seed}".encode()) % 30)
                run(folder, model, score, row, seed, after, config=config(row))
    return folder


# model -> floats of state, pairs that it holds, distance that it reaches and its Jacobian's, s at 1, 2, 4 lengths
FAR: dict[str, tuple[int | None, float, float, int, tuple[float | None, ...]]] = {
    "transformer": (16_384, 1e4, 1e4, 1024, (1.0, 0.7, 0.3)),
    "linear": (4224, 9.0, 1e4, 1024, (1.0, 0.9, 0.8)),
    "gla": (1024, 5.0, 100.0, 1024, (0.95, 0.9, 0.9)),
    "deltanet": (2048, 14.0, 300.0, 1024, (1.0, 1.0, 0.98)),
    "local": (2048, 0.2, 20.0, 32, (0.1, 0.1, 0.05)),
    "linformer": (8192, 6.0, 1e4, 1024, (0.9, None, None)),
    "fnet": (None, 2.5, 8.0, 1024, (0.3, 0.1, 0.0)),
}  # fmt: skip


REFUSED = "length is above 64, for which it was built"


def far(folder: Path, seeds: int = 2) -> Path:
    """What is drawn over state, distance and length."""
    starts = tuple(1 << i for i in range(10))
    for model, (state, pairs, distance, sight, lengths) in FAR.items():
        for seed in range(seeds):
            capable(folder, model, pairs, "recall-128", seed, state_floats=state)
            reach = [{"distance": d, "share": float(d < sight)} for d in starts]
            told = {"broken": {}, "blind": 0.0, "reach": reach}
            capable(folder, model, distance, "needle-1024", seed, "distance", starts, contract=told)
            made = [
                {
                    "length": 64 * 2**i,
                    "accuracy": s,
                    "test": s and s - seed / 50,
                    "refused": None if s is not None else why,
                }
                for i, s in enumerate(lengths)
                if i
                for why in ["length is above 64, for which it was built"]
            ]
            twin(folder, model, lengths[0] or 0.0, made, seed)
    return folder


def twin(folder: Path, model: str, level: float, lengths: list[dict[str, Any]], seed: int = 0) -> None:
    """A run that was tested at other lengths too."""
    made = run(folder / "drawn", model, level, "shift", seed)
    path = store.folder(folder / "drawn", made.task, model) / made.predictions["file"]
    answered.run(
        folder, model, made.accuracy_test, "shift", seed, stored=False,
        **{"budget": "ability", "steps_budget": LIMIT, "batch_size": BATCH, "config": CONFIG, "length": 64,
           "items_test": made.items_test, "score": dict(made.score) | {"lengths": lengths}, "ladder": made.ladder,
           "predictions": made.predictions, "variant": ["task.test_len=[128,256]"]},
    )  # fmt: skip
    store.write_once(store.folder(folder, made.task, model) / path.name, path.read_bytes())
