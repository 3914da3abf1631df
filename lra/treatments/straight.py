"""Training through what rounds: straight-through quantisers, and some steps of fine-tuning with them in place.

What a layer multiplies with stands on a grid; the gradient passes it by as if nothing were rounded, and stops where
numbers lie beyond the grid's end (Bengio et al. 2013, arXiv 1308.3432; Jacob et al. 2018, arXiv 1712.05877, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lra.treatments import ranges
from lra.treatments.further import trained


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
    spent = trained(trainee, steps, rate)
    trainee.model.eval()
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return spent


def _given(_: nn.Module, given: tuple[Tensor, ...], end: float, bits: int) -> tuple[Tensor, ...]:
    return Straight.apply(given[0], end, bits), *given[1:]
