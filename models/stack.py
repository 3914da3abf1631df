"""The ordinary pre-norm residual stack, shared by all models that only replace attention."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import Mask, mixed, stacked
from lra.models.parts.switch import SwitchFeedForward

FFNS = ("dense", "switch")


class FeedForward(nn.Module):
    """Linear(D, mlp_dim), GELU, Linear(mlp_dim, D) with dropout after each (spec 4.1).

    The GELU is the tanh form, which is what the official JAX code runs.
    """

    def __init__(self, dim: int, mlp_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        self.inner_dropout, self.dropout = Dropout(dropout), Dropout(dropout)
        for layer in (self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """(B, L, D) -> (B, L, D); x starts at position `first`, of which the dropout knows."""
        x = self.inner_dropout(F.gelu(self.inner(x), approximate="tanh"), first)
        return self.dropout(self.outer(x), first)


class Layer(nn.Module):
    """x + Dropout(Mixer(LN(x))), then x + FeedForward(LN(x)); mlp: another one, which is told of the mask."""

    def __init__(
        self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float, mlp: SwitchFeedForward | None = None
    ) -> None:
        super().__init__()
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mixer, self.mlp = mixer, FeedForward(dim, mlp_dim, dropout) if mlp is None else mlp
        self.dropout, self.masked = Dropout(dropout), mlp is not None

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        x = x + self.dropout(mixed(self.mixer, self.mixer_norm(x), mask))
        n = self.mlp_norm(x)
        return x + (mixed(self.mlp, n, mask) if self.masked else self.mlp(n))


class ResidualStack(nn.Module):
    """`depth` pre-norm layers and a last LayerNorm: (B, L, D), (B, L) -> (B, L, D).

    `mixer(layer=i, shared=d)` makes the mixer of layer i. With `checkpoint`, each layer's
    activations are computed again in the backward pass instead of kept (Chen et al. 2016,
    arXiv 1604.06174): memory O(depth x L x D) for the layer inputs plus one layer's inside.

    ffn: "dense", or "switch" (`parts.switch`) with its `experts` and `capacity`. Raises ValueError for another one.
    """

    packs = False

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
        ffn: str = "dense",
        experts: int = 4,
        capacity: float | None = None,
    ) -> None:
        super().__init__()
        if ffn not in FFNS:
            raise ValueError(f"model.stack.ffn: {ffn!r} is not one of {', '.join(FFNS)}")
        shared: dict = {}

        def layer(i: int) -> Layer:
            made = mixer(layer=i, shared=shared)
            switch = SwitchFeedForward(dim, mlp_dim, dropout, experts, capacity) if ffn == "switch" else None
            return Layer(made, dim, mlp_dim, dropout, switch)

        self.layers = nn.ModuleList(layer(i) for i in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return stacked(self, x, mask, self.norm)
