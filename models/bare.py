"""A residual stack of mixers alone: the block around which state spaces were published, without feed-forward layers.

    pre-norm (Gu et al. 2022, arXiv 2206.11893)       x + Dropout(Mixer(norm(x))), and a last norm
    post-norm                                         norm(x + Dropout(Mixer(x)))

norm is LayerNorm, or BatchNorm, which most of the published scores had and which sees other examples (parts.norms).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.layers import Mask, mixed, stacked
from lra.models.parts.norms import BatchNorm, normed, refuse_recomputed


class BareLayer(nn.Module):
    """One layer of the module."""

    def __init__(self, mixer: nn.Module, norm: nn.Module, dropout: Dropout, prenorm: bool) -> None:
        super().__init__()
        self.mixer_norm, self.mixer, self.dropout, self.prenorm = norm, mixer, dropout, prenorm

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        if self.prenorm:
            return x + self.dropout(mixed(self.mixer, normed(self.mixer_norm, x, mask), mask))
        return normed(self.mixer_norm, x + self.dropout(mixed(self.mixer, x, mask)), mask)


class BareStack(nn.Module):
    """`depth` such layers: (B, L, D), (B, L) -> (B, L, D).

    tie_dropout: a channel is dropped at all positions or at none. `checkpoint` as in `models.stack.ResidualStack`, not
    possible with `batchnorm`: ValueError.
    """

    packs = False

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
        prenorm: bool = True,
        batchnorm: bool = False,
        tie_dropout: bool = False,
    ) -> None:
        super().__init__()
        refuse_recomputed(batchnorm, checkpoint)

        def norm() -> nn.Module:
            return BatchNorm(dim) if batchnorm else nn.LayerNorm(dim, eps=1e-6)

        shared: dict = {}
        self.layers = nn.ModuleList(
            BareLayer(mixer(layer=i, shared=shared), norm(), Dropout(dropout, tie_dropout), prenorm)
            for i in range(depth)
        )
        self.norm = norm() if prenorm else None
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        last = None if self.norm is None else partial(normed, self.norm, mask=mask)
        return stacked(self, x, mask, last)
