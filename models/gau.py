"""Gated attention unit and FLASH (Hua et al. 2022, arXiv 2202.10447), as a mixer.

    u = silu(W_u x),  v = silu(W_v x)   (`expand` D wide),   z = silu(W_z x)   (`keys` wide)
    q, k = gamma_1 z + beta_1, gamma_2 z + beta_2
    GAU:    out = W_o (u * (A v)),       A_ij = relu(q_i . k_j / n + b_ij)^2                   (section 2.2)
    FLASH:  out = W_o (u * (A v + q' (k'^T v) / n)),  A inside groups of `group` positions     (section 3.2)

with q', k' from two more pairs of gamma and beta, and in groups the number of their real tokens in place of n. The bias
is the paper's for long inputs, b_ij = R_i a . R_j c, with rotary matrices R and learned a and c. One head. Time
O(L^2 D) for GAU, O(L (group + keys) D) for FLASH; memory O(L D). Padding has v = 0; n counts real tokens.

Departures from the paper: its unit replaces the feed-forward layers too, which the common stack keeps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import all_real, rotate, zeroed
from lra.models.parts.squared import gated
from lra.models.parts.tiles import no_autocast, wide


class GAU(nn.Module):
    """Gated attention; see the module. group: positions of a group, FLASH; null: GAU over all.

    Raises ValueError for numbers below 1, or an odd number of keys, which rotary matrices have no place for.
    """

    def __init__(self, dim: int, expand: int = 2, keys: int = 128, group: int | None = None) -> None:
        super().__init__()
        for field, value in (("expand", expand), ("keys", keys), ("group", group)):
            if value is not None and value < 1:
                raise ValueError(f"model.mixer.{field}: {value} is not above 0")
        if keys % 2:
            raise ValueError(f"model.mixer.keys: {keys} is not even")
        self.group = group
        self.gate, self.value = nn.Linear(dim, expand * dim), nn.Linear(dim, expand * dim)
        self.base, self.out = nn.Linear(dim, keys), nn.Linear(expand * dim, dim)
        for layer in (self.gate, self.value, self.base, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        kinds = 2 if group is None else 4
        self.gamma, self.beta = nn.Parameter(torch.randn(kinds, keys) * 0.02), nn.Parameter(torch.zeros(kinds, keys))
        self.bias = nn.Parameter(torch.randn(2, keys) * 0.02)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        length, dtype = x.shape[1], wide(x.dtype)
        group = min(self.group or length, length)
        if missing := -length % group:
            x, mask = F.pad(x, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        hidden = (layer(x).unflatten(1, (-1, group)) for layer in (self.gate, self.value, self.base))
        real = mask.view(len(mask), -1, group, 1)
        with no_autocast(x):
            sizes, count = (
                n.clamp(min=1).to(dtype) for n in (real.sum(2, keepdim=True), real.sum((1, 2)).unsqueeze(1))
            )
            # R_i a . R_j c = a . R_(j - i) c, for all groups the same.
            apart = torch.arange(1 - group, group, device=x.device)
            a, c = self.bias.to(dtype)
            bias = rotate(c.expand(len(apart), -1), apart) @ a
            gone = None if all_real(mask) else real
            y = gated(*hidden, self.gamma.to(dtype), self.beta.to(dtype), bias, sizes, count, gone)
        return self.out(y.flatten(1, 2)[:, :length])
