"""LRU: a linear recurrence with a diagonal matrix on a ring of the unit disc (Orvieto et al. 2023, arXiv 2303.06349).

    h_t = lambda * h_(t-1) + exp(gamma) * B u_t,   lambda = exp(-exp(nu) + i exp(theta))
    y_t = Re C h_t + d u_t,   out = GLU(W gelu(y) + b)

lambda cannot leave the disc. It starts uniform by area on the ring r_min <= |lambda| <= r_max, with phases uniform
up to max_phase, and gamma where white noise gives states of variance 1, log sqrt(1 - |lambda|^2); from there it is
free. B and C start normal, of variance 1 / (2 D) and 1 / N in real and imaginary part, d of variance 1. A state
remembers about 1 / (1 - |lambda|) positions. nu, theta, gamma and B take a learning rate of their own and no
weight decay.

Bidirectional as S5: one recurrence in each direction over the same B u, a C for each; both contain the present.
Time O(L N D), memory O(L (N + D)). A hole in the mask keeps its distance: states decay across it.

Departures from the paper: two directions; no dropout inside the layer; the mixer stands in the common stack, with
a feed-forward layer after it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import zeroed
from lra.models.parts.modes import Rates, slow
from lra.models.parts.scan import two_way


class LRU(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    state: N, complex. rate: ratio of the learning rate of nu, theta, gamma and B to that of the others.

    Raises ValueError for a state below 1, radii that are not 0 <= r_min < r_max <= 1, a phase or a rate not above 0.
    """

    def __init__(
        self,
        dim: int,
        state: int = 64,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        rate: float = 0.25,
    ) -> None:
        super().__init__()
        if state < 1:
            raise ValueError(f"model.mixer.state: {state} is not at least 1")
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(
                f"model.mixer.r_min: {r_min} is not at least 0 and below r_max {r_max}, which is at most 1"
            )
        if max_phase <= 0:
            raise ValueError(f"model.mixer.max_phase: {max_phase} is not above 0")
        # Neither end of the interval: a radius or a phase of 0, or a radius of 1, has no logarithm.
        area, turn = torch.rand(2, state, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        decay = -0.5 * (area * (r_max**2 - r_min**2) + r_min**2).log()
        gamma = 0.5 * (-torch.expm1(-2 * decay)).log()
        self.rates = Rates(rate, nu=decay.log(), theta=(max_phase * turn).log(), gamma=gamma)
        self.enter = slow(torch.randn(state, 2, dim) * (0.5 / dim) ** 0.5, rate)
        self.read = nn.Parameter(torch.randn(2, dim, state, 2) * state**-0.5)
        self.skip = nn.Parameter(torch.randn(dim))
        self.out = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        u, rates = zeroed(x, mask), self.rates
        g = torch.complex(-rates.nu.double().exp(), rates.theta.double().exp())
        enter = self.enter.to(rates.gamma.dtype) * rates.gamma.exp()[:, None, None]
        y = two_way(u, g, enter, self.read) + self.skip.to(u.dtype) * u
        return F.glu(self.out(F.gelu(y)), dim=-1)

    def state_floats(self, length: int) -> int:
        """Complex states of both directions."""
        return 4 * self.rates.nu.numel()
