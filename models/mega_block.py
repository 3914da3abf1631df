"""The layers that Mega was published with (Ma et al. 2022, arXiv 2209.10655).

    post-norm   y = norm(x + u * (h - x)),                    x' = norm(y + W_2 silu(W_1 y))
    pre-norm    y = x + u * (h - x), of norm(x) in h and u,   x' = y + W_2 silu(W_1 norm(y)), and a last norm

u and h are those of the mixer, which is handed the residual x. norm is LayerNorm, post (ListOps); ScaleNorm, a root
mean square with one gain for all channels, post (Text, Retrieval; Nguyen and Salazar 2019, arXiv 1910.05895); or
BatchNorm, pre (the pixels), which sees other examples (parts.norms). Dropout acts on silu(W_1 y) and on what W_2 gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import Mask, mixed, stacked
from lra.models.parts.norms import BatchNorm, ScaleNorm, normed, refuse_recomputed

NORMS = ("layer", "scale")


class MegaLayer(nn.Module):
    """One layer of the module: (B, L, D), (B, L) -> (B, L, D). Both W from N(0, 0.02^2)."""

    def __init__(
        self,
        mixer: nn.Module,
        norm: Callable[[], nn.Module],
        dim: int,
        mlp_dim: int,
        dropout: float,
        prenorm: bool,
    ) -> None:
        super().__init__()
        self.mixer, self.inner, self.outer = mixer, nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mixer_norm, self.mlp_norm, self.prenorm = norm(), norm(), prenorm
        self.inner_dropout, self.dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        if self.prenorm:
            y = x + mixed(self.mixer, normed(self.mixer_norm, x, mask), mask, residual=x)
            return y + self.fed(normed(self.mlp_norm, y, mask))
        y = normed(self.mixer_norm, x + mixed(self.mixer, x, mask), mask)
        return normed(self.mlp_norm, y + self.fed(y), mask)

    def fed(self, y: Tensor) -> Tensor:
        return self.dropout(self.outer(self.inner_dropout(F.silu(self.inner(y)))))


class MegaStack(nn.Module):
    """`depth` layers of the module: (B, L, D), (B, L) -> (B, L, D).

    `batchnorm` takes the place of `norm`. Raises ValueError if `norm` is neither layer nor scale. `checkpoint` as in
    `ResidualStack`, not possible with `batchnorm`: ValueError.
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
        norm: str = "layer",
        prenorm: bool = False,
        batchnorm: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"model.stack.norm: {norm!r} is not one of {', '.join(NORMS)}")
        refuse_recomputed(batchnorm, checkpoint)

        def made() -> nn.Module:
            if batchnorm:
                return BatchNorm(dim)
            return ScaleNorm() if norm == "scale" else nn.LayerNorm(dim)

        shared: dict = {}
        mixers = (mixer(layer=i, shared=shared) for i in range(depth))
        self.layers = nn.ModuleList(MegaLayer(each, made, dim, mlp_dim, dropout, prenorm) for each in mixers)
        self.norm = made() if prenorm else None
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        last = None if self.norm is None else partial(normed, self.norm, mask=mask)
        return stacked(self, x, mask, last)
