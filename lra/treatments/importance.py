"""What a head or a neuron does for the loss (Michel et al. 2019, arXiv 1905.10650, eq. 2).

    I_g = E_x |d loss(x) / d xi_g|,   xi_g = 1 a factor on group g of what a linear layer is given

A group is a head's channels before the out-projection, or one neuron before the second half of a feed-forward layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lra.treatments.examples import alone


def importance(trainee: Any, groups: dict[str, tuple[nn.Linear, int]], count: int) -> dict[str, Tensor]:
    """Of each layer (name: the layer, and into how many groups its inputs fall) float64 (G,), over `count` training
    examples, one at a time. A layer that the loss does not reach through its own call is left out."""
    model, held = trainee.model.eval(), {}
    sums = {name: torch.zeros(number, dtype=torch.float64) for name, (_, number) in groups.items()}
    reached: set[str] = set()

    def given(_: nn.Module, inputs: tuple[Tensor, ...], name: str, number: int) -> tuple[Tensor, ...]:
        x = inputs[0]
        held.setdefault(name, torch.ones(number, dtype=x.dtype, device=x.device, requires_grad=True))
        return (x.unflatten(-1, (number, -1)) * held[name].unsqueeze(-1)).flatten(-2), *inputs[1:]

    hooks = [layer.register_forward_pre_hook(partial(given, name=n, number=g)) for n, (layer, g) in groups.items()]
    try:
        for batch in alone(trainee, count):
            held.clear()
            with trainee.acc.autocast():
                loss = trainee.exam.loss(model(batch.tokens, batch.mask), batch)
            names = list(held)
            found = torch.autograd.grad(loss, [held[n] for n in names], allow_unused=True) if names else ()
            for name, grad in zip(names, found, strict=True):
                if grad is not None:
                    reached.add(name)
                    sums[name] += grad.abs().double().cpu() / count
    finally:
        for hook in hooks:
            hook.remove()
    return {name: sums[name] for name in groups if name in reached}
