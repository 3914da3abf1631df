"""Records of a race made up from formulas: thirteen models, two exams, three learning rates each. No torch."""

from __future__ import annotations

import math
import random
from pathlib import Path

from tests.help.synthetic import MODELS, write

ROWS = {"listops": (0.1, 0.35, 2000, 0.31), "image_jpeg": (0.1, 0.32, 10_000, 0.30)}  # chance, reach, items, floor


def records(folder: Path, models: int = 13, seeds: int = 1, asked: float = 20.0, of: str = "core") -> Path:
    draw, count = random.Random(0), 0
    for row, (chance, reach, items, floor) in ROWS.items():
        common = {"task": row, "row": row, "budget": "race", "data": {"fingerprint": f"data of {row}"}}
        for name, local, accuracy in (("majority", True, chance), ("near", True, floor), ("far", False, 0.9)):
            count += 1
            write(folder, count, **common, model=name, kind="floor", accuracy_test=accuracy, items_test=items,
                  local=local, config_hash="f" * 16)  # fmt: skip
        for m, (name, (_, _, speed, skill)) in enumerate(list(MODELS.items())[:models]):
            for seed in range(seeds):
                count += 1
                steps = int(40 * asked * speed)
                curve = [
                    {
                        "step": (step := steps * i // 20),
                        "train_loss": 2.0,
                        "valid_loss": 2.0,
                        "valid_accuracy": round(
                            chance + reach * skill * 2 * (1 - math.exp(-2.5 * speed * i / 20)) + draw.gauss(0, 0.004), 4
                        ),
                        "seconds": 90 * asked * step / steps / 1.3,
                        "core_seconds": 60 * asked * step / steps / 1.3,
                    }
                    for i in range(1, 21)
                ]
                rung = {"step": [1], "valid_loss": [2.0], "valid_accuracy": [0.1], "core_seconds": [1.0]}
                ladder = [
                    {"rate": rate, "steps": end, "ended": None if end == steps else "dropped", "curve": rung}
                    for rate, end in ((1e-3, steps // 5), (3e-3, steps), (1e-2, steps // 10))
                ]
                minutes = {"of": of, "asked": asked, "used": asked * draw.uniform(0.97, 1.03), "steps": 1.3 * steps,
                           "step_seconds": 0.1, "pace": 1e11, "pace_of_steps": 1e11}  # fmt: skip
                minutes["steps"] = int(minutes["steps"])
                if of == "device":
                    minutes |= {"pace": None, "pace_of_steps": None}
                cost = {"status": "ok", "step_peak_bytes": int(5e7 * (1 + m % 5)), "train_flops": 10**9 * (1 + m % 3)}
                cost |= {phase: {"examples_per_second": n * speed} for phase, n in (("train", 30), ("inference", 90))}
                write(folder, count, **common, model=name, seed=seed, steps_budget=steps, steps_done=steps, cost=cost,
                      curve=curve, ladder=ladder, minutes=minutes, training={"pace": 1e11}, batch_size=32,
                      accuracy_test=curve[-1]["valid_accuracy"], items_test=items, parameters=70_000 + 900 * m,
                      config_hash=f"{m:016x}")  # fmt: skip
    return folder
