"""Some steps of training behind the run's own: on its train split alone, by a seed of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lra.machine.company import clock
from lra.machine.device import own_randomness
from lra.train.batches import feed, stream
from lra.train.optim import learning_rate, set_learning_rate
from lra.train.parts import Cut
from lra.train.step import step
from lra.train.trainee import Trainee

OWN = 0x9A7  # of what is drawn here, apart from what the run itself drew


def seed_of(trainee: Any, *stage: int) -> int:
    """stage: numbers that tell this training from others of the same run."""
    return int(np.random.SeedSequence([trainee.seed, OWN, *stage]).generate_state(1)[0])


def trained(
    trainee: Any,
    steps: int,
    rate: float,
    stage: tuple[int, ...] = (),
    ready: Callable[[Trainee, int], None] = lambda own, number: None,
) -> dict[str, Any]:
    """Train all of the model for so many steps of the run's batch size, from `rate` along a line to 0. What it took.

    ready: is called with what is trained and the number of each step before it. Raises ValueError where the loss is not
    finite.
    """
    if steps == 0:
        return {"steps": 0}
    if trainee.acc.num_processes > 1:
        raise ValueError("a trained model is trained further in one process")
    train = replace(
        trainee.train, steps=steps, learning_rate=rate, schedule="linear_to_zero", warmup_steps=0, average=0.0
    )
    seed = seed_of(trainee, *stage)
    split = trainee.exam.split("train")
    drawn = stream(split.lengths, train.batch_size, seed, endless=getattr(split, "endless", False))
    begin = clock(), time.process_time()
    with own_randomness(seed):
        own = Trainee(trainee.model, trainee.exam, train, trainee.acc, False, seed)
        # What a mixer draws anew as steps go by goes on from the steps that it has seen.
        own.steps = max((int(module.steps) for module in own.drawing if hasattr(module, "at_step")), default=0)
        own.net.train()
        batches = feed(trainee.exam, split, drawn, Cut(count=1), (0, 1), 0, False)
        for number in range(steps):
            ready(own, number)
            set_learning_rate(own.optimizer, learning_rate(number, train))
            step(own, next(batches))
            if not torch.isfinite(own.loss):
                raise ValueError(f"treatment.learning_rate: the loss is not finite at step {number + 1} of {steps}")
    return {
        "steps": steps,
        "batch_size": train.batch_size,
        "learning_rate": rate,
        "seconds": round(clock() - begin[0], 3),
        "core_seconds": round(time.process_time() - begin[1], 3),
        "loss": float(own.loss),
    }
