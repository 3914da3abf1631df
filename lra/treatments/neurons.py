"""Feed-forward layers with the least important neurons cut out; what is left is a smaller layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lra.treatments.examples import at_least_one, share_of, weight_bytes
from lra.treatments.importance import importance


class Neurons:
    """share: of each layer's neurons that go. examples: that their importance is taken of. Raises ValueError."""

    def __init__(self, share: float = 0.5, examples: int = 64) -> None:
        self.share, self.examples = share_of("share", share), at_least_one("examples", examples)

    def after(self, trainee: Any) -> Any:
        layers = feed_forwards(trainee.model)
        groups = {name: (m.outer, m.outer.in_features) for name, m in layers.items()}
        found = importance(trainee, groups, self.examples)
        if not found:
            raise ValueError("the model has no feed-forward layer of two linear ones")
        kept = {}
        for name, score in found.items():
            order = score.argsort(stable=True, descending=True)
            keep = order[: max(1, len(order) - int(self.share * len(order)))].sort().values
            cut(layers[name], keep)
            kept[name] = len(keep)
        self.facts = {"kept": kept, "weight_bytes": weight_bytes(trainee.model)}
        return trainee


def feed_forwards(model: nn.Module) -> dict[str, nn.Module]:
    """Those of two linear layers, of which one takes what the other gives."""

    def is_one(m: nn.Module) -> bool:
        inner, outer = getattr(m, "inner", None), getattr(m, "outer", None)
        both = type(inner) is nn.Linear and type(outer) is nn.Linear
        return both and inner.out_features == outer.in_features

    return {name: m for name, m in model.named_modules() if is_one(m)}


def cut(layer: nn.Module, keep: torch.Tensor) -> None:
    layer.inner = rows_of(layer.inner, keep)
    layer.outer = columns_of(layer.outer, keep)


@torch.no_grad()
def rows_of(layer: nn.Linear, keep: torch.Tensor) -> nn.Linear:
    """The layer with these outputs alone."""
    return _like(layer, layer.weight[keep], None if layer.bias is None else layer.bias[keep])


@torch.no_grad()
def columns_of(layer: nn.Linear, keep: torch.Tensor) -> nn.Linear:
    """The layer with these inputs alone."""
    return _like(layer, layer.weight[:, keep], layer.bias)


def _like(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    rows, columns = weight.shape
    made = nn.Linear(columns, rows, bias is not None, device=weight.device, dtype=weight.dtype)
    made.weight.copy_(weight)
    if bias is not None:
        made.bias.copy_(bias)
    return made.train(layer.training)
