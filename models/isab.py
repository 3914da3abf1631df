"""Set Transformer's attention through inducing points (Lee et al. 2019, arXiv 1810.00825, section 3.1), as a mixer.

    H = MHA(I, X),   out = MHA(X, H),   MHA(X, Y) = softmax of the queries of X on keys and values of Y    (eq. 9, 10)

I are M learned vectors (`points`), X the input. Permutation equivariant: without positions in X it knows no order.
Time O(L M D), memory O(L D); padding is no key of the first attention, and there are no others.

Departures from the paper: norms, residuals and feed-forward layers are those of the stack around it, so that H has
none of its own. From the official code: scores are divided by the square root of a head's width, not of D.
"""

from __future__ import annotations

from torch import Tensor, nn

from lra.models.parts.cross import CrossAttention, learned
from lra.models.parts.heads import zeroed


class ISAB(nn.Module):
    """Two attentions, to and from `points` learned vectors. Raises ValueError if there is none."""

    def __init__(self, dim: int, heads: int, qkv_dim: int | None = None, points: int = 32) -> None:
        super().__init__()
        if points < 1:
            raise ValueError(f"model.mixer.points: {points} is not above 0")
        self.points = learned(points, dim)
        self.gather, self.spread = (CrossAttention(dim, heads, qkv_dim) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = zeroed(x, mask)
        return self.spread(x, self.gather(self.points[None], x, mask))
