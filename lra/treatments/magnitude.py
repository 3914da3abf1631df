"""The smallest weights of each linear layer set to zero. Imitated: a dense product takes as long with zeros in it, and
a sparse one takes longer on a CPU below about nine in ten."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lra.treatments.examples import covered, linears, share_of


class Magnitude:
    """share: of the weights of a layer. Raises ValueError if it is not in (0, 1)."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share_of("share", share)

    def after(self, trainee: Any) -> Any:
        layers = linears(trainee)
        with torch.no_grad():
            for layer in layers.values():
                layer.weight.copy_(sparse(layer.weight, self.share))
        zeros = sum(int((m.weight == 0).sum()) for m in layers.values())
        self.facts = {
            "executed": False,
            "layers": len(layers),
            "covered": covered(trainee.model, layers),
            "zeros": zeros / sum(m.weight.numel() for m in layers.values()),
        }
        return trainee


def sparse(weight: Tensor, share: float) -> Tensor:
    """Without the floor(share N) smallest in size, of equals the first."""
    flat = weight.flatten().clone()
    flat[flat.abs().sort(stable=True).indices[: int(share * flat.numel())]] = 0
    return flat.view_as(weight)
