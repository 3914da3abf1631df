"""A residual stack of mixers alone: the block around which state spaces were published, without feed-forward layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import through


class BareLayer(nn.Module):
    """x + Dropout(Mixer(LN(x)))."""

    def __init__(self, mixer: nn.Module, dim: int, dropout: float) -> None:
        super().__init__()
        self.mixer_norm, self.mixer, self.dropout = nn.LayerNorm(dim, eps=1e-6), mixer, Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.dropout(self.mixer(self.mixer_norm(x), mask))


class BareStack(nn.Module):
    """`depth` such layers and a last LayerNorm: (B, L, D), (B, L) -> (B, L, D).

    With `checkpoint` as `models.stack.ResidualStack`.
    """

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        shared: dict = {}
        self.layers = nn.ModuleList(BareLayer(mixer(layer=i, shared=shared), dim, dropout) for i in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(through(self.layers, x, mask, self.checkpoint and self.training))
