"""Span-based dynamic convolution (Jiang et al. 2020, arXiv 2008.02496, section 3), and ConvBERT's mixed attention.

    s = W_s depthwise_conv(x),   taps_t = softmax_k( W_f (q_t * s_t) ),   K of them a head
    y_t = sum_j taps_tj (W_p x)_{t + j - K // 2}
    mixed: out = W_o [ attention(q, k, v), y ], each with half of the heads

q is common to both. Without `mixed` all heads are y: local, whatever the taps. Time O(L^2 D / 2 + L K D), or
O(L (D + K) D); memory O(L D). x is zero at padding before either convolution; a hole keeps its distance.

Departures from the paper: where the heads are odd in number, one more is a convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.parts.heads import all_real, zeroed
from lra.models.parts.short_conv import centred_conv, odd_kernel
from lra.models.parts.softmax import attend
from lra.models.parts.taps import tapped


class SpanConv(nn.Module):
    """Dynamic taps from a span of the input; see the module.

    Raises ValueError if `qkv_dim` is not a multiple of `heads`, or `kernel` is not odd.
    """

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None, kernel: int = 9, mixed: bool = True) -> None:
        super().__init__()
        width = qkv_dim or dim
        if heads < 1 or width % heads:
            raise ValueError(f"size.heads: {heads} does not divide qkv_dim {width}")
        bound = odd_kernel("kernel", kernel) ** -0.5
        self.attending, self.kernel, size = heads // 2 if mixed else 0, kernel, width // heads
        self.local = heads - self.attending
        own, seen = self.local * size, self.attending * size
        self.query, self.span, self.value = nn.Linear(dim, own), nn.Linear(dim, own), nn.Linear(dim, own)
        self.taps = nn.Linear(own, self.local * kernel)
        self.depthwise = nn.Parameter(torch.empty(dim, kernel).uniform_(-bound, bound))
        self.key, self.seen = (nn.Linear(dim, seen), nn.Linear(dim, seen)) if seen else (None, None)
        self.out = nn.Linear(width, dim)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        q, span = self.query(x), self.span(centred_conv(x, self.depthwise))
        taps = self.taps(q * span).unflatten(-1, (self.local, self.kernel)).softmax(-1)
        y = tapped(zeroed(self.value(x), mask).unflatten(-1, (self.local, -1)), taps.to(x.dtype)).flatten(2)
        if self.key is not None:
            q = q.unflatten(-1, (self.local, -1))[:, :, : self.attending]
            k, v = (layer(x).unflatten(-1, (self.attending, -1)) for layer in (self.key, self.seen))
            keys = None if all_real(mask) else mask[:, None, None, :]
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            y = torch.cat((attend(q, k, v, keys, None).transpose(1, 2).flatten(2), y), -1)
        return self.out(y)
