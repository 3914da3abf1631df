"""The way through the layers of a stack."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute


def through(layers: Iterable[nn.Module], x: Tensor, mask: Tensor, again: bool) -> Tensor:
    """x (B, L, D) after all layers; again: what a layer keeps is computed again in the backward pass (Chen et al.
    2016, arXiv 1604.06174)."""
    for layer in layers:
        x = recompute(layer, x, mask, use_reentrant=False) if again else layer(x, mask)
    return x
