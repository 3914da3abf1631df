"""Mamba-2 (Dao and Gu 2024, arXiv 2405.21060), in two directions.

    x', B, C = silu(conv4(W_x x)), silu(conv4(W_BC x)),   dt = softplus(W_dt x + b_dt),   a = -exp(A) dt
    S_t = exp(a_t) S_{t-1} + dt_t B_t x'_t^T,   y_t = C_t^T S_t + d x'_t                 (a head: x' has P columns)
    out = W_o RMSNorm( (y along + y against the length) * silu(W_z x) )

The step dt both opens the memory to the input and closes it to the past. B and C, of `state` columns, are the
same for all heads. The paper is causal; here W_x, W_z, W_o and the norm are common to both directions, which is why
the inner width is D and not 2 D, and all else is a direction's own: convolutions, B, C, dt, A, d.

Time O(L (Q + N) D) for a state of N, memory O(L (D + H N)). Padding has dt = 0, so that the recurrence passes over a
hole, and is zero to the convolutions, which keep the distance across it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.decay import decay_attention
from lra.models.parts.recurrent import WAYS, StepDecay, head_width, hidden, linear, root_mean_square, undecayed
from lra.models.parts.short_conv import ShortConv


class Mamba2(nn.Module):
    """A selective state space; see the module. Heads have `qkv_dim` / H columns.

    Raises ValueError if H does not divide `qkv_dim`, or `state` or `conv_kernel` is below 1.
    """

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None, state: int = 64, conv_kernel: int = 4) -> None:
        super().__init__()
        width = qkv_dim or dim
        head_width(width, heads, 1)
        if state < 1:
            raise ValueError(f"model.mixer.state: {state} is not above 0")
        self.heads, self.state = heads, state
        self.gate, self.value, self.out = linear(dim, width), linear(dim, width), linear(width, dim)
        self.memory = linear(dim, 4 * state)
        self.conv_value = nn.ModuleList(ShortConv(width, conv_kernel, bias=True, reverse=way) for way in WAYS)
        self.conv_memory = nn.ModuleList(ShortConv(2 * state, conv_kernel, bias=True, reverse=way) for way in WAYS)
        self.step = StepDecay(dim, 2 * heads, (1.0, 16.0))
        self.skip = undecayed(torch.ones(2, heads, 1))
        self.norm = nn.Parameter(torch.ones(width))

    def state_floats(self, length: int) -> int:
        """S of both directions."""
        return 2 * self.state * self.out.in_features

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, gone = hidden(x, mask)
        value, memory = self.value(x), self.memory(x).chunk(2, -1)
        dt, a = (t.unflatten(-1, (2, self.heads)).unbind(2) for t in self.step(x, gone))
        y = 0
        for way, reverse in enumerate(WAYS):
            v = self.conv_value[way](value).unflatten(-1, (self.heads, -1))
            b, c = self.conv_memory[way](memory[way]).unsqueeze(2).chunk(2, -1)
            y = y + decay_attention(c, b, v, a[way], dt[way], reverse) + v * self.skip[way].to(v.dtype)
        return self.out(root_mean_square(y.flatten(2) * F.silu(self.gate(x)), self.norm))
