"""Blockwise attention (Qiu et al. 2019, arXiv 1911.02972): each head sends each block of queries to one block of keys.

The sequence is cut into `blocks` blocks, whose size follows from `max_len` and never from the input. A head has a
permutation of them, i -> (i + s) mod blocks (section 3.1): s = 0, the block itself, for the first half of the heads,
rounded up, and 1, 2, ... in turn for the others. Time O(L^2 / blocks D), memory O(L D).

Departures from the paper: none; it has 2 or 3 blocks. Where the permutation leads to a block without a real token, the
head gives zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.heads import MultiHead, all_real, zeroed


class Blockwise(MultiHead):
    """Softmax attention to one block a head; see the module. Raises ValueError if `blocks` is below 2."""

    def __init__(self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, blocks: int = 3) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if blocks < 2:
            raise ValueError(f"model.mixer.blocks: {blocks} is not 2 or more")
        self.blocks, self.size = blocks, -(-max_len // blocks)
        near = (heads + 1) // 2
        self.shifts = [0] * near + [1 + i % (blocks - 1) for i in range(heads - near)]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        length = q.shape[2]
        count = -(-length // self.size)
        size = min(self.size, length)
        missing = count * size - length
        shift = torch.tensor(self.shifts, device=q.device)
        to = (torch.arange(count, device=q.device) + shift[:, None]) % self.blocks  # (H, S)
        there, to = to < count, to.clamp(max=count - 1)
        q, k, v = (F.pad(t, (0, 0, 0, missing)).unflatten(2, (count, size)) for t in (q, k, v))
        head = torch.arange(self.heads, device=q.device)[:, None]
        k, v = k[:, head, to], v[:, head, to]  # (B, H, S, W, E)
        keys = None
        if not (all_real(mask) and not missing and count == self.blocks):
            keys = F.pad(mask, (0, missing)).unflatten(1, (count, size))[:, to] & there[..., None]
            keys = keys.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return y.unflatten(0, (-1, count)).transpose(1, 2).flatten(2, 3)[:, :, :length]
