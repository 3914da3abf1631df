"""The Evolved Transformer's encoder cell (So et al. 2019, arXiv 1901.11117, figure 3) as a stack around any mixer.

    1  x <- x + (W_a n) * sigmoid(W_b n)
    2  l = relu(W n) (`mlp_dim` wide),  r = relu(conv3(n)) (D / 2, filled up with zeros),
       x <- x + [ sepconv9(LN(l + r)), 0 ]  (D / 2, filled up with zeros)
    3  x <- x + mixer(n)
    4  x <- x + W_2 relu(W_1 n)

n is LN(x), each time another. There is dropout on l, r, the hidden units of 4 and what is added. One cell stands in the
place of two layers: the stack has half as many, rounded up. Where the paper has 4 D, here is `mlp_dim`. Padding is zero
in front of the convolutions. Time and memory are those of the mixer and O(L D mlp_dim).

Departures from the paper: none known; its searched cell has attention in step 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.heads import zeroed
from lra.models.parts.layers import through
from lra.models.parts.short_conv import centred_conv

WIDE, NARROW = 9, 3


class EvolvedCell(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D)."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        if mlp_dim < dim // 2:
            raise ValueError(f"size.mlp_dim: {mlp_dim} is below {dim // 2}, half of the width, which a branch has")
        self.dim, half = dim, dim // 2
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(4))
        self.values, self.gates = nn.Linear(dim, dim), nn.Linear(dim, dim)
        # conv3 as one product with three neighbours side by side.
        self.left, self.right = nn.Linear(dim, mlp_dim), nn.Linear(NARROW * dim, half)
        self.branch_norm = nn.LayerNorm(mlp_dim, eps=1e-6)
        self.depthwise = nn.Parameter(torch.empty(mlp_dim, WIDE).uniform_(-(WIDE**-0.5), WIDE**-0.5))
        self.pointwise = nn.Linear(mlp_dim, half)
        self.mixer = mixer
        self.inner, self.outer = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        for layer in (self.values, self.gates, self.left, self.right, self.pointwise, self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.left_dropout, self.right_dropout, self.inner_dropout = (Dropout(dropout) for _ in range(3))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for step, norm, drop in zip(
            (self.gated, self.branches, self.mixer, self.fed), self.norms, self.dropouts, strict=True
        ):
            y = step(norm(x), mask)
            x = x + F.pad(drop(y), (0, self.dim - y.shape[-1]))
        return x

    def gated(self, n: Tensor, mask: Tensor) -> Tensor:
        return self.values(n) * self.gates(n).sigmoid()

    def branches(self, n: Tensor, mask: Tensor) -> Tensor:
        n = zeroed(n, mask)
        left = self.left_dropout(self.left(n).relu())
        near = F.pad(n, (0, 0, NARROW // 2, NARROW // 2)).unfold(1, NARROW, 1).mT.flatten(2)
        right = self.right_dropout(self.right(near).relu())
        h = self.branch_norm(left + F.pad(right, (0, left.shape[-1] - right.shape[-1])))
        return self.pointwise(centred_conv(zeroed(h, mask), self.depthwise))

    def fed(self, n: Tensor, mask: Tensor) -> Tensor:
        return self.outer(self.inner_dropout(self.inner(n).relu()))


class EvolvedStack(nn.Module):
    """Half of `depth` cells, rounded up, and a last LayerNorm: (B, L, D), (B, L) -> (B, L, D)."""

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
        cells = -(-depth // 2)
        self.layers = nn.ModuleList(
            EvolvedCell(mixer(layer=i, shared=shared), dim, mlp_dim, dropout) for i in range(cells)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(through(self.layers, x, mask, self.checkpoint and self.training))
