"""Whole layers left out, as LayerDrop does where it is tested (Fan et al. 2020, arXiv 1909.11556, section 3.2): those
of depth d with d = 0 modulo floor(1 / share). Parents that were not trained for it show what that is worth."""

from __future__ import annotations

from typing import Any

from torch import nn

from lra.treatments.examples import share_of, weight_bytes


class Layers:
    """share: about how many go; .5 is every other. Raises ValueError if it is not in (0, 1), or if none would be left,
    or none goes."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share_of("share", share)
        if self.share > 0.5:
            raise ValueError(f"treatment.share: {share} is not in (0, 0.5]: every depth is 0 modulo 1")

    def after(self, trainee: Any) -> Any:
        stack = getattr(trainee.model, "stack", None)
        layers = getattr(stack, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ValueError("the model has no stack of layers")
        every = int(1 / self.share)
        kept = [d for d in range(len(layers)) if d % every]
        if not kept:
            raise ValueError(f"a model of {len(layers)} layers has none left")
        stack.layers = nn.ModuleList(layers[d] for d in kept)
        self.facts = {"kept": kept, "of": len(layers), "weight_bytes": weight_bytes(trainee.model)}
        return trainee
