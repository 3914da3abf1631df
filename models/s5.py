"""S5: one linear system of P states for all channels of a layer (Smith et al. 2023, arXiv 2208.04933).

    h_t = exp(Delta Lambda) * h_(t-1) + (exp(Delta Lambda) - 1) / Lambda * B u_t
    y_t = 2 Re C h_t + d u_t,   out = g * sigmoid(W g + b),   g = gelu(y)

Of P states half of each conjugate pair is kept. Lambda = -exp(a) + i w starts at the eigenvalues of `blocks` copies
of the normal part of HiPPO-LegS for P / blocks states, B at real numbers of variance 1 / P in the basis of its
eigenvectors, C at variance 1 / P in real and imaginary part (the authors chose it by the exam: `read_std`), d at 1,
Delta, one a state, log-uniform in [dt_min, dt_max]. What is `slow`, of Lambda (a and w), Delta and B, takes a learning
rate of its own and no weight decay. Gated is y itself in place of g where `gated` is linear, as in the paper's text.

Bidirectional: one recurrence in each direction over the same B u, C reads both; both contain the present. Time
O(L P D), memory O(L (P + D)). A hole in the mask keeps its distance: states decay across it.

Departures: the real part of Lambda is negative by its form, where the official code learns it freely and clips it
on one task; C is not truncated. The published blocks are `s5_block` at budget=published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.heads import zeroed
from lra.models.parts.modes import Rates, legs, log_steps
from lra.models.parts.modes import slow as slowly
from lra.models.parts.scan import two_way

SLOW = ("Lambda", "dt", "B")
GATED = ("gelu", "linear")


class S5(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D).

    state: P. rate: ratio of the learning rate of what is `slow` to that of the others. read_std: deviation of C at the
    start; null: P^(-1/2). inner_dropout: of g, the same channels at all positions.

    Raises ValueError if 2 x blocks does not divide the state, for steps out of order, a rate not above 0, a name in
    `slow` that is not one of Lambda, dt, B, or a word for `gated` that is neither gelu nor linear.
    """

    def __init__(
        self,
        dim: int,
        state: int = 64,
        blocks: int = 1,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        rate: float = 0.25,
        slow: Sequence[str] = ("Lambda", "dt", "B"),
        gated: str = "gelu",
        read_std: float | None = None,
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if unknown := [name for name in slow if name not in SLOW]:
            raise ValueError(f"model.mixer.slow: {unknown[0]!r} is not one of {', '.join(SLOW)}")
        if gated not in GATED:
            raise ValueError(f"model.mixer.gated: {gated!r} is not one of {', '.join(GATED)}")
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
        self.enter = slowly(enter.to(torch.get_default_dtype()).contiguous(), rate)
        rates = self.rates
        tagged = {"Lambda": (rates.log_decay, rates.frequency), "dt": (rates.log_dt,), "B": (self.enter,)}
        for parameter in (p for name in SLOW if name not in slow for p in tagged[name]):
            parameter.lra = {}
        self.read = nn.Parameter(torch.randn(2, dim, modes, 2) * (state**-0.5 if read_std is None else read_std))
        self.skip = nn.Parameter(torch.randn(dim))
        self.gate, self.gated = nn.Linear(dim, dim), gated
        self.dropout = Dropout(inner_dropout, tied=True) if inner_dropout else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        u, rates = zeroed(x, mask), self.rates
        pole = torch.complex(-rates.log_decay.double().exp(), rates.frequency.double())
        g = rates.log_dt.double().exp() * pole
        b = torch.view_as_complex(self.enter.double().transpose(1, 2).contiguous())
        enter = torch.view_as_real(((g.exp() - 1) / pole)[:, None] * b).transpose(1, 2)
        y = two_way(u, g, 2 * enter, self.read) + self.skip.to(u.dtype) * u
        g = self.dropout(F.gelu(y))
        return (g if self.gated == "gelu" else y) * torch.sigmoid(self.gate(g))

    def state_floats(self, length: int) -> int:
        """Complex states of both directions."""
        return 4 * self.rates.log_dt.numel()
