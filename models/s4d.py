"""S4D: a bank of small linear systems with diagonal state matrices (Gu et al. 2022, arXiv 2206.11893).

Each channel is x'(t) = A x + B u, y = Re C x with N complex modes, A_n = -exp(a_n) + i w_n, stepped by Delta:
held constant over a step (zero-order hold) its answer to an impulse is

    K_l = 2 Re sum_n C_n (exp(Delta A_n) - 1) / A_n exp(Delta A_n l)

and the layer GLU(W gelu(K * u + d u) + b). Bidirectional by two C, one for the past and one for the future,
which starts one step ahead. Where A starts is the model:

    lin     -1/2 + i pi n
    inv     -1/2 + i (M / pi) (M / (2 n + 1) - 1), M = 2 N
    legs    the normal part of HiPPO-LegS, with its B, no entry of which is above 2
    real    -(n + 1), no frequencies: real C

Delta starts log-uniform in [dt_min, dt_max], C normal with variance 1, d too. What is `slow` takes a learning rate
of its own: A (a and w) and Delta, or A alone (the paper's text exams), or C as well (its pixels). A and Delta have no
weight decay, however fast they learn.

Time O(L log L D), memory O(L D). A hole in the mask keeps the distance across it: taps belong to lags. Two
kernels and sums over modes are float32 at least, their exponents float64.

Departures from the paper: B is in C, where `legs` then starts; of B the size is bounded, which no choice of
eigenvectors moves (its code bounds the imaginary part: 1 % apart at 4 states, 0.01 % at 64). The published blocks are
`s4d_block` at budget=published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.conv import long_conv, with_skip
from lra.models.parts.heads import zeroed
from lra.models.parts.modes import Rates, inverse_frequencies, legs, linear_frequencies, log_steps, mode_kernel
from lra.models.parts.tiles import wide

INITS = ("lin", "inv", "legs", "real")
SLOW = ("A", "dt", "C")
LARGEST = 2.0  # entry of HiPPO's B; without a bound the fastest of 32 modes starts 20 times as large


class S4DConvolution(nn.Module):
    """K * u + d u, to both sides: (B, L, D) -> (B, L, D). Padding must be zero in u already.

    init: see above. state: real numbers in the state of a channel, two a mode. tie: all channels share A (never
    Delta). rate: ratio of the learning rate of what is `slow` to that of the others.

    Raises ValueError for an unknown init, an odd or non-positive state, steps out of order, a rate not above 0 or a
    name in `slow` that is not one of A, dt, C.
    """

    def __init__(
        self,
        dim: int,
        init: str = "lin",
        state: int = 64,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        tie: bool = True,
        rate: float = 0.1,
        slow: Sequence[str] = ("A", "dt"),
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"model.mixer.init: {init!r} is not one of {', '.join(INITS)}")
        if state < 2 or state % 2:
            raise ValueError(f"model.mixer.state: {state} is not an even number of at least 2")
        if unknown := [name for name in slow if name not in SLOW]:
            raise ValueError(f"model.mixer.slow: {unknown[0]!r} is not one of {', '.join(SLOW)}")
        modes = state // 2
        decay, frequency, weight = starts(init, modes)
        copies = 1 if tie else dim
        values = {"log_decay": decay.log().expand(copies, modes), "log_dt": log_steps(dim, dt_min, dt_max)}
        if frequency is not None:
            values["frequency"] = frequency.expand(copies, modes)
        self.rates = Rates(rate, **{name: value.clone() for name, value in values.items()})
        parts = 1 if init == "real" else 2
        draw = torch.randn(2, dim, modes, parts) * (1 / parts) ** 0.5
        self.weight = nn.Parameter(draw * weight.to(draw.dtype)[:, None])
        self.skip = nn.Parameter(torch.randn(dim))
        for name, part in self.rates.named_parameters():
            if ("dt" if name == "log_dt" else "A") not in slow:
                part.lra = {"decay": 0.0}
        if "C" in slow:
            self.weight.lra = {"rate": rate}

    def forward(self, u: Tensor) -> Tensor:
        back, ahead = self.kernels(u.shape[1], wide(u.dtype))
        return long_conv(u, with_skip(back, self.skip), ahead)

    def state_floats(self, length: int) -> int:
        """Modes of both directions, which C reads."""
        return self.weight.numel()

    def kernels(self, length: int, dtype: torch.dtype) -> Tensor:
        """Taps of both directions, (2, D, L)."""
        rates = self.rates
        decay, dt = rates.log_decay.double().exp(), rates.log_dt.double().exp()[:, None]
        frequency = torch.zeros_like(decay) if self.weight.shape[-1] == 1 else rates.frequency.double()
        a = torch.complex(-decay, frequency)
        c = self.weight.double()
        c = torch.complex(c[..., 0], torch.zeros_like(c[..., 0]) if c.shape[-1] == 1 else c[..., 1])
        return mode_kernel(dt * a, 2 * c * ((dt * a).exp() - 1) / a, length, dtype)


class S4D(S4DConvolution):
    """(B, L, D), (B, L) -> (B, L, D). inner_dropout: of gelu, the same channels at all positions; the other options
    as of `S4DConvolution`."""

    def __init__(
        self,
        dim: int,
        init: str = "lin",
        state: int = 64,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        tie: bool = True,
        rate: float = 0.1,
        slow: Sequence[str] = ("A", "dt"),
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, init, state, dt_min, dt_max, tie, rate, slow)
        self.dropout = Dropout(inner_dropout, tied=True) if inner_dropout else nn.Identity()
        self.out = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.glu(self.out(self.dropout(F.gelu(super().forward(zeroed(x, mask))))), dim=-1)


def starts(init: str, modes: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Decay, frequency (none for `real`) and size of C by mode, (N,) float64."""
    one = torch.ones(modes, dtype=torch.float64)
    if init == "real":
        return torch.arange(1, modes + 1, dtype=torch.float64), None, one
    if init == "legs":
        frequency, vectors = legs(modes)
        b = vectors.mH @ (2 * torch.arange(2 * modes, dtype=torch.float64) + 1).sqrt().to(vectors.dtype)
        return one / 2, frequency, b.abs().clamp(max=LARGEST)
    return one / 2, (linear_frequencies if init == "lin" else inverse_frequencies)(modes), one
