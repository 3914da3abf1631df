"""Memory-compressed attention (Liu et al. 2018, arXiv 1801.10198, section 4.2.3): keys in blocks of `factor`.

    k'_s = sum_i K_i k_(s c + i),   v'_s = sum_i V_i v_(s c + i),   i = 0 .. c - 1
    out = softmax(Q K'^T / sqrt(E)) V'

a convolution of width and stride c, a head at a time, K_i and V_i being E x E. With `by: mean` both are the mean of the
real tokens of a block instead, without weights (as pooled keys are in Wang et al. 2021, arXiv 2106.13797). Time
O(L^2 / c D), memory O(L D). Blocks start at position 0, so that more padding moves none; padding is zero, and a block
is a key if any of its tokens is real.

Departures from the paper: no layers of local attention in between, and no causal mask, which its null key is for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import MultiHead, all_real, zeroed
from lra.models.parts.softmax import attend

WAYS = ("conv", "mean")


class Compressed(MultiHead):
    """Attention to compressed keys; see the module. Raises ValueError for an unknown way or a factor below 1."""

    def __init__(
        self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, factor: int = 3, by: str = "conv"
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if factor < 1:
            raise ValueError(f"model.mixer.factor: {factor} is not above 0")
        if by not in WAYS:
            raise ValueError(f"model.mixer.by: {by!r} is not one of {', '.join(WAYS)}")
        self.factor, self.taps = factor, None
        if by == "conv":
            # As torch's convolutions start: uniform within (inputs)^-1/2.
            bound = (factor * self.head_dim) ** -0.5
            shape = (heads, factor * self.head_dim, self.head_dim)
            self.taps = nn.ParameterDict(
                {name: nn.Parameter(torch.empty(shape).uniform_(-bound, bound)) for name in ("key", "value")}
            )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        missing = -k.shape[2] % self.factor
        real = F.pad(mask, (0, missing)).unflatten(1, (-1, self.factor))
        k, v = (F.pad(t, (0, 0, 0, missing)).unflatten(2, (-1, self.factor)) for t in (k, v))
        if self.taps is None:
            count = real.sum(-1).clamp(min=1).to(k.dtype)[:, None, :, None]
            k, v = k.sum(3) / count, v.sum(3) / count
        else:
            k, v = (t.flatten(3) @ taps for t, taps in ((k, self.taps["key"]), (v, self.taps["value"])))
        keys = None if all_real(mask) else real.any(-1)[:, None, None, :]
        return attend(q, k, v, keys, None)
