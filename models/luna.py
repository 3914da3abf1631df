"""Luna (Ma et al. 2021, arXiv 2106.01540): attention through a short sequence P that goes through the layers beside X.

    Y_P = softmax(Q_P C^T / sqrt(E)) C,      Q_P = P W_pq,  C = X W_c                          (pack, section 3.1)
    Y_X = softmax(Q C'^T / sqrt(E)) C' W_o,  Q = X W_q,  C' = Y_P W_c'                         (unpack)
    P <- LN(P + Y_P),   X <- LN(X + Y_X),   X <- LN(X + FFN(X))

Keys and values are one projection, as in the paper's tied form. The first P is learned, `packed` vectors. Time
O(L packed D), memory O(L D). Padding is no key when it is packed, and there are no other keys.

Departures from the paper: where `qkv_dim` is not D, Y_P is projected to D; no sinusoids are added to the first P, which
is learned anyway; attention weights are not dropped. The last layer has no use for its own P, and no norm of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from lra.models.parts.chance import Dropout
from lra.models.parts.heads import all_real, zeroed
from lra.models.parts.layers import Mask, packing, row, whole
from lra.models.parts.softmax import attend
from lra.models.stack import FeedForward


class Luna(nn.Module):
    """Pack and unpack: X (B, L, D), mask (B, L), P (B, N, D) -> Y_X (B, L, D), Y_P (B, N, D). For `LunaStack`.

    Raises ValueError if `qkv_dim` is not a multiple of `heads`.
    """

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None) -> None:
        super().__init__()
        width = qkv_dim or dim
        if heads < 1 or width % heads:
            raise ValueError(f"size.heads: {heads} does not divide qkv_dim {width}")
        self.heads = heads
        self.pack_query, self.context, self.query = (nn.Linear(dim, width, bias=False) for _ in range(3))
        self.packed_context, self.out = nn.Linear(dim, width, bias=False), nn.Linear(width, dim, bias=False)
        self.packed = nn.Identity() if width == dim else nn.Linear(width, dim, bias=False)
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, mask: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        x = zeroed(x, mask)
        packed = self.packed(self._attend(self.pack_query(p), self.context(x), mask))
        return self.out(self._attend(self.query(x), self.packed_context(packed), None)), packed

    def _attend(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        q, k = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (queries, context))
        keys = None if mask is None or all_real(mask) else mask[:, None, None, :]
        return attend(q, k, k, keys, None).transpose(1, 2).flatten(2)


class LunaLayer(nn.Module):
    """(X, P) -> (X, P), norms behind the sums."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_dim: int, dropout: float, last: bool) -> None:
        super().__init__()
        self.mixer, self.mlp = mixer, FeedForward(dim, mlp_dim, dropout)
        self.norm, self.mlp_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.packed_norm = None if last else nn.LayerNorm(dim, eps=1e-6)
        self.dropout, self.packed_dropout = Dropout(dropout), Dropout(0.0 if last else dropout)

    def forward(self, x: Tensor, mask: Mask, p: Tensor) -> tuple[Tensor, Tensor]:
        y, packed = self.mixer(*whole(x, mask), p)
        x = self.norm(x + self.dropout(row(y, mask)))
        if self.packed_norm is not None:
            p = self.packed_norm(p + self.packed_dropout(packed))
        return self.mlp_norm(x + self.mlp(x)), p


class LunaStack(nn.Module):
    """`depth` layers over X and P: (B, L, D), (B, L) -> (B, L, D). Raises ValueError if `packed` is below 1."""

    packs = False

    def __init__(
        self,
        mixer: Callable[..., nn.Module],
        depth: int,
        dim: int,
        mlp_dim: int,
        dropout: float = 0.0,
        checkpoint: bool = False,
        packed: int = 16,
    ) -> None:
        super().__init__()
        if packed < 1:
            raise ValueError(f"model.stack.packed: {packed} is not above 0")
        shared: dict = {}
        self.layers = nn.ModuleList(
            LunaLayer(mixer(layer=i, shared=shared), dim, mlp_dim, dropout, i == depth - 1) for i in range(depth)
        )
        self.packed = nn.Parameter(torch.randn(packed, dim) * dim**-0.5)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        p = self.packed.to(x.dtype).expand(len(x), -1, -1)
        at = packing(mask, self.packs and not self.training)
        x = row(x, at)
        for layer in self.layers:
            if self.checkpoint and self.training:
                x, p = recompute(layer, x, at, p, use_reentrant=False)
            else:
                x, p = layer(x, at, p)
        return whole(x, at)[0]
