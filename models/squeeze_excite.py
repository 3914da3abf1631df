"""Squeeze-and-excitation (Hu et al. 2017, arXiv 1709.01507, section 3), as a control: one number a channel for all.

    out = x * sigmoid(W_2 relu(W_1 s)),   s = mean of x over the real tokens

with D / `reduction` units inside, but 4 at least. Every token hears of all others, but by their mean alone: what needs
to know which token stood where, or beside which, is out of reach. Time and memory O(L D).
"""

from __future__ import annotations

from torch import Tensor, nn

from lra.models.parts.heads import zeroed


class SqueezeExcite(nn.Module):
    """Channels scaled by the mean; see the module. Raises ValueError if `reduction` is below 1."""

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"model.mixer.reduction: {reduction} is not above 0")
        inner = max(4, dim // reduction)
        self.squeeze, self.excite = nn.Linear(dim, inner), nn.Linear(inner, dim)
        for layer in (self.squeeze, self.excite):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        mean = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(x.dtype)
        return x * self.excite(self.squeeze(mean).relu()).sigmoid().unsqueeze(1)
