"""H-Transformer-1D (Zhu and Soricut 2021, arXiv 2107.11906): exact attention nearby, coarser with the distance.

    level 0: w_ij = exp(q_i . k_j / sqrt(E)) inside blocks of 2 b positions
    level l: positions stand for 2^l tokens each, with q and k their means and v their sum; a block of b of them sees
             its sibling, the other half of a block of 2 b, with weights of the same form
    out_i = sum_l (w^l v^l)_i / sum_l (w^l n^l)_i

where a query takes of each level what its ancestor there has, and n^l counts the real tokens behind a coarse key. The
blocks of all levels tile the L x L matrix, each entry once. Means are of real tokens; the levels, which have a largest
score of their own for each query, are joined from the coarsest down by their log-sum-exp. Time O(3 b L D), memory
O(L D). More padding adds levels that nobody sees.

Departures from the paper: none. What a published package for PyTorch (h-transformer-1d 0.1.9) does is otherwise: it
takes off another maximum at each level before it adds them, counts a coarse key once below and 2^l times above, and
lets padding through.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.heads import MultiHead, zeroed
from lra.models.parts.tiles import no_autocast, wide


class HTransformer(MultiHead):
    """Hierarchical attention; see the module. Raises ValueError if `block`, b above, is below 1."""

    def __init__(self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, block: int = 16) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if block < 1:
            raise ValueError(f"model.mixer.block: {block} is not above 0")
        self.block = block

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        length, narrow, dtype = q.shape[2], v.dtype, wide(q.dtype)
        pairs = -(-length // (2 * self.block))
        levels = (pairs - 1).bit_length()
        more = 2 * self.block * 2**levels - length
        with no_autocast(q):
            real = mask[:, None, :, None]
            q, k, v = (F.pad(t.to(dtype).masked_fill(~real, 0), (0, 0, 0, more)) for t in (q, k, v))
            count = F.pad(real.to(dtype), (0, 0, 0, more))
            sums = [(q, k, v, count)]
            for _ in range(levels):
                sums.append(tuple(t.unflatten(2, (-1, 2)).sum(3) for t in sums[-1]))
            joined = None
            for level in range(levels, -1, -1):
                here = self._level(*sums[level], sibling=level > 0)
                joined = here if joined is None else _join(here, joined)
            above, below, _ = joined
        # What has no key at all, as in an example without tokens, gets zeros.
        return (above / below.clamp(min=torch.finfo(dtype).tiny))[:, :, :length].to(narrow)

    def _level(self, q: Tensor, k: Tensor, v: Tensor, count: Tensor, sibling: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Sums (B, H, N, E) and count (B, 1, N, 1) of a level -> of each query, sum of weights times values, sum of
        weights, and the score that both are relative to."""
        size = self.block if sibling else 2 * self.block
        q, k = (t / count.clamp(min=1) for t in (q, k))
        q, k, v, count = (t.unflatten(2, (-1, size)) for t in (q, k, v, count))
        if sibling:
            k, v, count = (t.unflatten(2, (-1, 2)).flip(3).flatten(2, 3) for t in (k, v, count))
        scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(count.mT == 0, -torch.inf)
        top = scores.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
        weights = (scores - top).exp()
        return tuple(t.flatten(2, 3) for t in (weights @ v, weights @ count, top))


def _join(fine: tuple[Tensor, Tensor, Tensor], coarse: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    coarse = tuple(t.repeat_interleave(2, 2) for t in coarse)
    top = torch.maximum(fine[2], coarse[2])
    here, there = (fine[2] - top).exp(), (coarse[2] - top).exp()
    return fine[0] * here + coarse[0] * there, fine[1] * here + coarse[1] * there, top
