"""Gated linear attention (Yang et al. 2023, arXiv 2312.06635), in two directions.

    S_t = diag(exp(a_t)) S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t / sqrt(E)
    a_t = logsigmoid(W2 W1 x_t + b) / 16,   out = W_o ( RMSNorm(o) * silu(W_g x) )       (section 4)

Keys have half the width of the values, the norm is taken a head at a time, W1 has rank 16. The second direction is ours
(parts.recurrent): the heads of half the width run each way, o is put together before W_o.

Time O(L E (Q + E)) a head, memory O(L D). Padding has k = 0 and a = 0: a hole is not there, its neighbours
are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.decay import channel_decay_attention
from lra.models.parts.opened import At, opened_rule
from lra.models.parts.recurrent import WAYS, HeadNorm, each_way, exact, head_width, hidden, linear, nothing_at

TEMPERATURE = 16


class GLA(nn.Module):
    """Gated linear attention; see the module. `rank` is the width between W1 and W2.

    Raises ValueError if 4 H does not divide `qkv_dim`, or `rank` is below 1.
    """

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None, rank: int = 16) -> None:
        super().__init__()
        width = qkv_dim or dim
        self.heads, self.head_dim = heads, 2 * head_width(width, heads, 4)
        if rank < 1:
            raise ValueError(f"model.mixer.rank: {rank} is not above 0")
        self.query, self.key = linear(dim, width // 2), linear(dim, width // 2)
        self.value, self.gate, self.out = linear(dim, width), linear(dim, width), linear(width, dim)
        self.forget = nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, width // 2))
        self.norm = HeadNorm(self.head_dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.ruled(x, mask, channel_decay_attention)

    def opened(self, x: Tensor, mask: Tensor, at: At, each: bool = False) -> Tensor:
        """See `parts.opened`."""
        return self.ruled(x, mask, partial(opened_rule, channel_decay_attention, at, each))

    def ruled(self, x: Tensor, mask: Tensor, rule: Callable[..., Tensor]) -> Tensor:
        """rule(q, k, v, a, reverse) of each way."""
        x, gone = hidden(x, mask)
        q, k, v = (each_way(project(x), self.heads) for project in (self.query, self.key, self.value))
        q = [t * t.shape[-1] ** -0.5 for t in q]
        decay = exact(self.forget[1], exact(self.forget[0], x))
        a = each_way(nothing_at(gone, F.logsigmoid(decay) / TEMPERATURE), self.heads)
        ways = [rule(*each) for each in zip(q, k, v, a, WAYS, strict=True)]
        return self.out(self.norm(ways) * F.silu(self.gate(x)))

    def state_floats(self, length: int) -> int:
        """S of both directions, whose keys have half the width."""
        return self.heads * self.head_dim**2
