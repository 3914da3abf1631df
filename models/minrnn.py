"""minGRU and minLSTM: gates that do not see the state (Feng et al. 2024, arXiv 2410.01201).

    minGRU     h_t = (1 - z_t) * h_(t-1) + z_t * g(W_h x_t),    z = sigmoid(W_z x)
    minLSTM    h_t = f'_t * h_(t-1) + i'_t * g(W_h x_t),        f' = f / (f + i), i' = i / (f + i),
                                                                f = sigmoid(W_f x), i = sigmoid(W_i x)

with g(c) = c + 1/2 from 0 on and sigmoid(c) below: a recurrence that needs no step-by-step evaluation. minLSTM is
minGRU with z = sigmoid(softplus(-W_f x) - softplus(-W_i x)). No biases. One recurrence in each direction over the
same gates, and a projection of both states, D wide each, back to D.

log(1 - z) = -softplus stays in that form down to the recurrence, so that a gate that hardly opens forgets
at its own rate. The authors' log-space sums lose a digit with every tenfold length; here no error grows with it.

Time O(L D^2), memory O(L D). A hole in the mask is deleted: the state is carried across it.

Departures: two directions; no convolution and no norm of its own, since the common stack stands around it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import all_real, zeroed
from lra.models.parts.scan import scan
from lra.models.parts.tiles import no_autocast, wide


class MinGRU(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D)."""

    gates = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, (self.gates + 1) * dim, bias=False)
        self.out = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        candidate, *gates = self.enter(zeroed(x, mask)).to(wide(x.dtype)).chunk(self.gates + 1, dim=-1)
        with no_autocast(x):
            gate = self.gate(*gates)
            decay, enters = F.logsigmoid(-gate), gate.sigmoid() * positive(candidate)
            if not all_real(mask):
                hidden = ~mask.unsqueeze(-1)
                decay, enters = decay.masked_fill(hidden, 0), enters.masked_fill(hidden, 0)
            states = torch.cat([scan(decay, enters, ahead) for ahead in (False, True)], dim=-1)
        return self.out(states.to(self.out.weight.dtype))

    def state_floats(self, length: int) -> int:
        """h of both directions."""
        return self.out.in_features

    def gate(self, *gates: Tensor) -> Tensor:
        """Logit of z."""
        return gates[0]


class MinLSTM(MinGRU):
    """(B, L, D), (B, L) -> (B, L, D)."""

    gates = 2

    def gate(self, *gates: Tensor) -> Tensor:
        forget, write = gates
        return F.softplus(-forget) - F.softplus(-write)


def positive(c: Tensor) -> Tensor:
    """g, elementwise."""
    return c.relu() + c.clamp(max=0).sigmoid()
