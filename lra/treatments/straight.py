"""Training through what rounds: straight-through quantisers, and some steps of fine-tuning with them in place.

What a layer multiplies with stands on a grid; the gradient passes it by as if nothing were rounded, and stops where
numbers lie beyond the grid's end (Bengio et al. 2013, arXiv 1308.3432; Jacob et al. 2018, arXiv 1712.05877, section 3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lra.machine.company import clock
from lra.machine.device import own_randomness
from lra.train.batches import feed, stream
from lra.train.optim import learning_rate, set_learning_rate
from lra.train.parts import Cut
from lra.train.step import step
from lra.train.trainee import Trainee
from lra.treatments import ranges

OWN = 0x9A7  # of what is drawn here, apart from what the run itself drew


class Straight(torch.autograd.Function):
    """x on the grid that ends at `end`, which broadcasts against it; up to there its gradient is what comes."""

    @staticmethod
    def forward(ctx, x: Tensor, end: Tensor | float, bits: int) -> Tensor:
        ctx.save_for_backward(x.abs() <= end)
        return ranges.onto(x, end, bits)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


class Grid(nn.Module):
    """A weight on its grid, whose end `end(weight)` moves with it."""

    def __init__(self, end: Callable[[Tensor], Tensor], bits: int) -> None:
        super().__init__()
        self.end, self.bits = end, bits

    def forward(self, weight: Tensor) -> Tensor:
        return Straight.apply(weight, self.end(weight.detach()), self.bits)


def tuned(
    trainee: Any,
    layers: Mapping[str, nn.Linear],
    bits: Mapping[str, int],
    end: Callable[[Tensor], Tensor],
    inputs: Mapping[str, tuple[float, int]],
    steps: int,
    rate: float,
) -> dict[str, Any]:
    """Put layers on grids and train all of the model for so many steps with them there. What it took.

    bits: of each layer's weight. end: where the grid of a weight ends. inputs: of each layer the end of its input's
    grid, and the bits. Weights are left on their grids, inputs are put there whenever the layer is called.
    """
    for name, layer in layers.items():
        parametrize.register_parametrization(layer, "weight", Grid(end, bits[name]))
        own_end, own_bits = inputs[name]
        layer.register_forward_pre_hook(partial(_given, end=own_end, bits=own_bits))
    spent = _trained(trainee, steps, rate) if steps else {"steps": 0}
    trainee.model.eval()
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return spent


def _given(_: nn.Module, given: tuple[Tensor, ...], end: float, bits: int) -> tuple[Tensor, ...]:
    return Straight.apply(given[0], end, bits), *given[1:]


def _trained(trainee: Any, steps: int, rate: float) -> dict[str, Any]:
    """On the train split alone, from `rate` along a line to 0. Raises ValueError where the loss is not finite."""
    if trainee.acc.num_processes > 1:
        raise ValueError("training through quantisers runs in one process")
    train = replace(
        trainee.train, steps=steps, learning_rate=rate, schedule="linear_to_zero", warmup_steps=0, average=0.0
    )
    seed = int(np.random.SeedSequence([trainee.seed, OWN]).generate_state(1)[0])
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
