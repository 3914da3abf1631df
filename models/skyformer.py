"""Skyformer (Chen et al. 2021, arXiv 2111.00035): a Gaussian kernel in place of the softmax, by the Nystroem method.

    kappa(a, b) = exp(-|a - b|^2 / (2 sqrt(E)))                                                (section 4)
    out = kappa(Q, Z) D^-1/2 P D^-1/2 kappa(Z, K) V,   P ~ (D^-1/2 G D^-1/2)^-1
    G = kappa(Z, Z) + I / 10,   D = diag(rows' sums of G)

without normalisation of rows. P is `iterations` steps of Nystroemformer's iteration. Z are `landmarks` rows: the first
half, rounded down, of Q, the others of K, each at place floor(u n) among the n real tokens, with numbers u that are
drawn at construction, and again every `redraw` training steps. So a place may come twice, and an example without
tokens has finite answers. Time O(L landmarks E + landmarks^3) a head, memory O(L (D + H landmarks)).

Departures from the paper: u is common to the examples and stays for `redraw` steps, where it draws anew in every
forward pass, in evaluation too; rows are not averaged over several draws (its `accumulation`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lra.models.nystromformer import pseudo_inverse
from lra.models.parts.heads import MultiHead, real_first, zeroed
from lra.models.parts.redrawn import Redrawn
from lra.models.parts.tiles import no_autocast, wide

RIDGE = 0.1
BITS = 31  # of u, an integer, so that no type of the model moves a place


class Skyformer(MultiHead, Redrawn):
    """Kernel attention through sampled rows; see the module. Raises ValueError for options out of range."""

    def __init__(
        self,
        dim: int,
        heads: int,
        max_len: int,
        qkv_dim: int | None = None,
        landmarks: int = 128,
        iterations: int = 6,
        redraw: str | int = "never",
    ) -> None:
        super().__init__(dim, heads, max_len, qkv_dim)
        if landmarks < 2:
            raise ValueError(f"model.mixer.landmarks: {landmarks} is not 2 or more")
        if iterations < 1:
            raise ValueError(f"model.mixer.iterations: {iterations} is not above 0")
        self.landmarks, self.iterations = landmarks, iterations
        self.start_drawing(redraw)

    def draw(self, generator: torch.Generator | None) -> None:
        self.set_drawn("places", torch.randint(1 << BITS, (self.landmarks,), generator=generator))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(zeroed(x, mask), mask)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        narrow, dtype = v.dtype, wide(q.dtype)
        place = real_first(mask).gather(1, self.places * mask.sum(1, keepdim=True) >> BITS)
        with no_autocast(q):
            # |a - b|^2 / (2 sqrt(E)) is half the distance of what is divided by E^1/4.
            q, k = (t.to(dtype) * t.shape[-1] ** -0.25 for t in (q, k))
            of_queries, of_keys = place.split((self.landmarks // 2, self.landmarks - self.landmarks // 2), 1)
            z = torch.cat((_rows(q, of_queries), _rows(k, of_keys)), 2)
            gram = kernel(z, z) + RIDGE * torch.eye(self.landmarks, dtype=dtype, device=z.device)
            scale = gram.sum(-1, keepdim=True).rsqrt()
            values = kernel(z, k) @ v.to(dtype).masked_fill(~mask[:, None, :, None], 0)
            inverse = pseudo_inverse(gram * scale * scale.mT, self.iterations)
            return (kernel(q, z) @ (scale * (inverse @ (scale * values)))).to(narrow)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, E), (..., M, E) -> exp(-|a - b|^2 / 2), (..., N, M)."""
    return (a @ b.mT - (a.square().sum(-1, keepdim=True) + b.square().sum(-1, keepdim=True).mT) / 2).exp()


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x (B, H, L, E), index (B, N) -> (B, H, N, E)."""
    return x.gather(2, index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
