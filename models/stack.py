"""The ordinary pre-norm residual stack, shared by all models that only replace attention."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import through


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
    """x + Dropout(Mixer(LN(x))), then x + FeedForward(LN(x))."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mixer, self.mlp = mixer, FeedForward(dim, mlp_dim, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.mixer(self.mixer_norm(x), mask))
        return x + self.mlp(self.mlp_norm(x))


class ResidualStack(nn.Module):
    """`depth` pre-norm layers and a last LayerNorm: (B, L, D), (B, L) -> (B, L, D).

    `mixer(layer=i, shared=d)` makes the mixer of layer i. With `checkpoint`, each layer's
    activations are computed again in the backward pass instead of kept (Chen et al. 2016,
    arXiv 1604.06174): memory O(depth x L x D) for the layer inputs plus one layer's inside.
    """

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        shared: dict = {}
        self.layers = nn.ModuleList(Layer(mixer(layer=i, shared=shared), dim, mlp_dim, dropout) for i in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(through(self.layers, x, mask, self.checkpoint and self.training))
