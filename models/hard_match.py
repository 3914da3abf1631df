"""Hard and soft attention (TTSR, Yang et al. 2020, arXiv 2006.04139, section 3.1) along the length.

    r_ij = <q_i, k_j> / (|q_i| |k_j|)    q_i and k_j those of `patch` neighbours, side by side
    h_i = argmax_j r_ij,   s_i = max_j r_ij                                          (eq. 3, 6)
    y_i = W_o (s_i (f_i + v_{h_i}))      f, v = W_f x, W_v x                          (eq. 4, 7)

over the real positions j, in each head by itself. Which position is copied has no gradient; how like it is has one, and
what is copied. The first of those counts that are as like as the most, but for rounding. Time O(L^2 D) for the search,
O(L D) for what is copied; memory O(L D): r is looked at in tiles.

Departures from the paper: positions of a sequence for patches of an image, and of the sequence itself for those of a
reference; a linear map of f + v where a convolution reads both; heads, of which the paper has one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import PROJECTED, MultiHead, all_real, zeroed
from lra.models.parts.tiles import no_autocast, tiles, wide

TIE = 1e-6  # two similarities that are closer are equal


class HardMatch(MultiHead):
    """(B, L, D), (B, L) -> (B, L, D). Raises ValueError if `patch` is not odd and above 0."""

    def __init__(self, dim: int, heads: int, max_len: int, qkv_dim: int | None = None, patch: int = 3) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if patch < 1 or patch % 2 == 0:
            raise ValueError(f"model.mixer.patch: {patch} is not odd and above 0")
        self.patch = patch
        self.own = nn.Linear(dim, self.heads * self.head_dim, bias=False)
        nn.init.xavier_uniform_(self.own.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        q, k, v = (self.split(getattr(self, name)(x)) for name in PROJECTED)
        with no_autocast(x):
            q, k = (F.normalize(self.around(t.to(wide(t.dtype))), dim=-1) for t in (q, k))
            found = nearest(q.detach(), k.detach(), None if all_real(mask) else mask).unsqueeze(-1)
            likeness = (q * k.gather(2, found.expand_as(k))).sum(-1, keepdim=True).to(v.dtype)
        return self.out(self.join(likeness * (self.split(self.own(x)) + v.gather(2, found.expand_as(v)))))

    def around(self, x: Tensor) -> Tensor:
        """(B, H, L, E) -> (B, H, L, patch x E), zeros beyond the ends."""
        reach = self.patch // 2
        return F.pad(x, (0, 0, reach, reach)).unfold(2, self.patch, 1).flatten(3)


@torch.no_grad()
def nearest(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Of q, k (B, H, L, N) of norm 1, for each query the first real key that is most like it: int64 (B, H, L)."""
    batch, heads, length, _ = q.shape
    out = torch.zeros(batch, heads, length, dtype=torch.int64, device=q.device)
    for some, cuts in tiles(batch, length, heads * length, q.device):
        for cut in cuts:
            r = q[some, :, cut] @ k[some].mT
            if mask is not None:
                r = r.masked_fill(~mask[some, None, None], -2.0)
            out[some, :, cut] = (r >= r.amax(-1, keepdim=True) - TIE).int().argmax(-1)
    return out
