"""Linear layers as products of two thinner ones, the best of that rank (Eckart and Young 1936)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lra.treatments.examples import linears, put, share_of, weight_bytes


class LowRank:
    """share: of a layer's multiplications that are left: rank = floor(share in out / (in + out)), at least 1. Layers
    that would not get thinner stay. Raises ValueError if it is not in (0, 1)."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share_of("share", share)

    def after(self, trainee: Any) -> Any:
        layers, ranks = linears(trainee), {}
        for name, layer in layers.items():
            rows, columns = layer.weight.shape
            rank = max(1, int(self.share * rows * columns / (rows + columns)))
            if rank * (rows + columns) < rows * columns:
                put(trainee.model, layer, halves(layer, rank))
                ranks[name] = rank
        if not ranks:
            raise ValueError("no linear layer has a thinner product")
        self.facts = {"ranks": ranks, "layers": len(layers), "weight_bytes": weight_bytes(trainee.model)}
        return trainee


@torch.no_grad()
def halves(layer: nn.Linear, rank: int) -> nn.Sequential:
    """W = U S V^T cut to `rank`, each half with the square roots of S."""
    u, s, v = torch.linalg.svd(layer.weight.double(), full_matrices=False)
    root = s[:rank].sqrt()
    rows, columns = layer.weight.shape
    like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
    first, second = nn.Linear(columns, rank, bias=False, **like), nn.Linear(rank, rows, layer.bias is not None, **like)
    first.weight.copy_(root[:, None] * v[:rank])
    second.weight.copy_(u[:, :rank] * root)
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
