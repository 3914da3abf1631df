"""The layers that Mega was published with, on ListOps, Text and Retrieval (Ma et al. 2022, arXiv 2209.10655).

    y = norm(x + mixer(x)),   x' = norm(y + W_2 silu(W_1 y))

Norms stand behind each sum, there is none at the end, and the mixer's x is the residual itself, so that with `Mega`
the sum is x + u * (h - x), gated as in the paper. norm is LayerNorm (ListOps) or ScaleNorm, a root mean square with
one gain for all channels (Text, Retrieval; Nguyen and Salazar 2019, arXiv 1910.05895). The authors' pixels had
BatchNorm before each part instead, which sees other examples and is not here. Dropout acts on silu(W_1 y) and on what
W_2 gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import through
from lra.models.parts.tiles import wide

NORMS = ("layer", "scale")


class ScaleNorm(nn.Module):
    """g x / sqrt(mean(x^2) + 1e-6) over the last dimension, g one number, 1 at first, in float32 at least."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(wide(x.dtype))
        return (self.gain.to(y.dtype) * F.rms_norm(y, y.shape[-1:], eps=1e-6)).to(x.dtype)


class MegaLayer(nn.Module):
    """One layer of the module: (B, L, D), (B, L) -> (B, L, D). Both W from N(0, 0.02^2)."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.mixer, self.inner, self.outer = mixer, nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mixer_norm, self.mlp_norm = (ScaleNorm() if norm == "scale" else nn.LayerNorm(dim) for _ in range(2))
        self.inner_dropout, self.dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.mixer_norm(x + self.mixer(x, mask))
        return self.mlp_norm(y + self.dropout(self.outer(self.inner_dropout(F.silu(self.inner(y))))))


class MegaStack(nn.Module):
    """`depth` layers of the module: (B, L, D), (B, L) -> (B, L, D). `checkpoint` as in `ResidualStack`.

    Raises ValueError if `norm` is neither layer nor scale.
    """

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
        norm: str = "layer",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"model.stack.norm: {norm!r} is not one of {', '.join(NORMS)}")
        shared: dict = {}
        mixers = (mixer(layer=i, shared=shared) for i in range(depth))
        self.layers = nn.ModuleList(MegaLayer(each, dim, mlp_dim, dropout, norm) for each in mixers)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return through(self.layers, x, mask, self.checkpoint and self.training)
