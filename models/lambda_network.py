"""LambdaNetwork (Bello 2021, arXiv 2102.08602) over one dimension: the context as a linear map for each query.

    y_n^h = (sum_m k^_m v_m^T + sum_m e_(m - n) v_m^T)^T q_n^h                                 (eq. 1, 2)

k^ is K after a softmax over the positions, e one learned vector of `keys` numbers for each distance; K and V are common
to all heads. The first sum is the content lambda. The second, the position lambda, is read per query as
sum_m (q_n . e_(m - n)) v_m: with `reach` r over r neighbours, as taps of a convolution; with `reach` null over all
distances that `max_len` knows, as one long convolution of V for each of the `keys` numbers; with 0 it is left out. Time
O(L D (keys + r)), or O(L log L D keys / H); memory O(L D). Padding has no weight in the softmax, and v = 0 there.

Departures from the paper: LayerNorm on queries and values, where it has the batch's; intra-depth 1. As in the paper,
there is no projection behind the heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from lra.models.parts.conv import long_conv
from lra.models.parts.heads import real_softmax, zeroed
from lra.models.parts.taps import tapped


class Lambda(nn.Module):
    """Content and position lambdas; see the module.

    Raises ValueError if `heads` does not divide D, `keys` is below 1, or `reach` is neither odd nor 0 nor null.
    """

    def __init__(self, dim: int, heads: int, max_len: int, keys: int = 16, reach: int | None = 23) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"size.heads: {heads} does not divide the width {dim}")
        if keys < 1:
            raise ValueError(f"model.mixer.keys: {keys} is not above 0")
        if reach is not None and reach != 0 and (reach < 0 or reach % 2 == 0):
            raise ValueError(f"model.mixer.reach: {reach} is not odd and above 0, or 0, or null")
        self.heads, self.reach, self.max_len = heads, reach, max_len
        self.query, self.key = nn.Linear(dim, heads * keys, bias=False), nn.Linear(dim, keys, bias=False)
        self.value = nn.Linear(dim, dim // heads, bias=False)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
        self.query_norm, self.value_norm = nn.LayerNorm(heads * keys), nn.LayerNorm(dim // heads)
        distances = 2 * max_len - 1 if reach is None else reach
        self.positions = nn.Parameter(torch.randn(keys, distances) * keys**-0.5) if distances else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        q = self.query_norm(self.query(x)).unflatten(-1, (self.heads, -1))
        v = zeroed(self.value_norm(self.value(x)), mask)
        content = real_softmax(self.key(x), mask).to(v.dtype).mT @ v
        y = torch.einsum("blhk,bkp->blhp", q, content)
        if self.reach:
            y = y + tapped(v.unsqueeze(2), q @ self.positions.to(q.dtype))
        elif self.positions is not None:
            for number, e in enumerate(self.positions.unbind()):
                # Kept would be a convolution of V for each number.
                y = y + recompute(self._far, q[..., number], v, e, use_reentrant=False, preserve_rng_state=False)
        return y.flatten(2)

    def _far(self, q: Tensor, v: Tensor, e: Tensor) -> Tensor:
        """q (B, L, H), v (B, L, P), e (2 max_len - 1,) -> q_n sum_m e_(m - n) v_m, (B, L, H, P)."""
        here = self.max_len - 1
        back, ahead = (t.expand(v.shape[2], -1) for t in (e[: here + 1].flip(0), e[here + 1 :]))
        return q.unsqueeze(-1) * long_conv(v, back, ahead).unsqueeze(2)
