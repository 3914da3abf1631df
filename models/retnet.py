"""RetNet (Sun et al. 2023, arXiv 2307.08621), its decay to both sides.

    o_i = sum_j g_h^|i - j| (q_i k_j / sqrt(E)) v_j,   g_h = 1 - 2^(-5-h),  h = 0 ... H - 1
    out = W_o ( silu(W_g x) * GroupNorm(o) )

q and k are rotated by their position, the norm is taken a head at a time, without a gain. The paper is causal:
the other side is ours.

Time O(L E (Q + E)) a head, memory O(L D). Padding has no weight, and positions and distances count real tokens: a
hole is not there, its neighbours are neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.decay import two_sided_decay_attention
from lra.models.parts.heads import MultiHead, rotate
from lra.models.parts.recurrent import hidden, linear, nothing_at
from lra.models.parts.tiles import wide

EPS = 1e-5


class RetNet(MultiHead):
    """Retention; see the module. Raises ValueError if the width of a head is odd."""

    def __init__(self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if self.head_dim % 2:
            raise ValueError(f"size.qkv_dim: rotated heads have an even width, not {self.head_dim}")
        self.gate = linear(dim, self.heads * self.head_dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, gone = hidden(x, mask)
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.query, self.key, self.value))
        rank = (mask.long().cumsum(1) - 1).unsqueeze(1)
        q, k = (rotate(t.transpose(1, 2), rank).transpose(1, 2) for t in (q, k))
        head = torch.arange(self.heads, device=x.device, dtype=torch.float64)
        decay = torch.log1p(-(2.0 ** (-5 - head))).to(wide(x.dtype)).expand(*x.shape[:2], -1)
        decay, real = nothing_at(gone, decay), nothing_at(gone, torch.ones_like(decay))
        y = two_sided_decay_attention(q * self.head_dim**-0.5, k, v, decay, decay, real)
        return self.out(F.silu(self.gate(x)) * F.layer_norm(y, y.shape[-1:], eps=EPS).flatten(2))

    def state_floats(self, length: int) -> int:
        """To each side the sum over k v."""
        return 2 * self.heads * self.head_dim**2
