"""S5: one linear system of P states for all channels of a layer (Smith et al. 2023, arXiv 2208.04933).

    h_t = exp(Delta Lambda) * h_(t-1) + (exp(Delta Lambda) - 1) / Lambda * B u_t
    y_t = 2 Re C h_t + d u_t,   out = g * sigmoid(W g + b),   g = gelu(y)

Of P states half of each conjugate pair is kept. Lambda = -exp(a) + i w starts at the eigenvalues of `blocks` copies
of the normal part of HiPPO-LegS for P / blocks states, B at real numbers of variance 1 / P in the basis of its
eigenvectors, C at variance 1 / P in real and imaginary part, d at 1, Delta, one a state, log-uniform in
[dt_min, dt_max]. a, w, Delta and B take a learning rate of their own and no weight decay.

Bidirectional: one recurrence in each direction over the same B u, C reads both; both contain the present. Time
O(L P D), memory O(L (P + D)). A hole in the mask keeps its distance: states decay across it.

Departures: the real part of Lambda is negative by its form, where the official code learns it freely and clips it
on one task; C is not truncated; BatchNorm and the dropout inside the layer are left out; the mixer stands in the
common stack, with a feed-forward layer after it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import zeroed
from lra.models.parts.modes import Rates, legs, log_steps, slow
from lra.models.parts.scan import two_way


class S5(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    state: P. rate: ratio of the learning rate of Lambda, Delta and B to that of the others.

    Raises ValueError if 2 x blocks does not divide the state, for steps out of order or a rate not above 0.
    """

    def __init__(
        self,
        dim: int,
        state: int = 64,
        blocks: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        rate: float = 0.25,
    ) -> None:
        super().__init__()
        if blocks < 1 or state < 1 or state % (2 * blocks):
            raise ValueError(f"model.mixer.state: {state} is not a multiple of twice the number of blocks, {blocks}")
        modes = state // 2
        frequency, vectors = legs(modes // blocks)
        self.rates = Rates(
            rate,
            log_decay=torch.full((modes,), 0.5).log(),
            frequency=frequency.repeat(blocks),
            log_dt=log_steps(modes, dt_min, dt_max),
        )
        real = torch.randn(blocks, state // blocks, dim, dtype=torch.float64) * state**-0.5
        enter = torch.view_as_real((vectors.mH @ real.to(vectors.dtype)).flatten(0, 1)).transpose(1, 2)
        self.enter = slow(enter.to(torch.get_default_dtype()).contiguous(), rate)
        self.read = nn.Parameter(torch.randn(2, dim, modes, 2) * state**-0.5)
        self.skip = nn.Parameter(torch.randn(dim))
        self.gate = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        u, rates = zeroed(x, mask), self.rates
        pole = torch.complex(-rates.log_decay.double().exp(), rates.frequency.double())
        g = rates.log_dt.double().exp() * pole
        b = torch.view_as_complex(self.enter.double().transpose(1, 2).contiguous())
        enter = torch.view_as_real(((g.exp() - 1) / pole)[:, None] * b).transpose(1, 2)
        y = two_way(u, g, 2 * enter, self.read) + self.skip.to(u.dtype) * u
        y = F.gelu(y)
        return y * torch.sigmoid(self.gate(y))
