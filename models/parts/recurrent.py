"""What the mixers with a matrix for a memory share: two directions, gates, norms.

A causal recurrence becomes bidirectional as a second one that runs against the length, on channels of
its own: H heads each way, each of half the width, so that there are as many parameters as in one
direction of full width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.heads import all_real
from lra.models.parts.tiles import no_autocast, wide

EPS = 1e-5
WAYS = (False, True)  # reverse: along the length, and against it


def hidden(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """x (B, L, D) with zeros at padding, and where that is, (B, L, 1), or None if all is real."""
    if all_real(mask):
        return x, None
    gone = ~mask.unsqueeze(-1)
    return x.masked_fill(gone, 0), gone


def nothing_at(gone: Tensor | None, x: Tensor) -> Tensor:
    """x (B, L, ...) with zeros where `gone` (B, L, 1) is True: no decay, or no writing."""
    return x if gone is None else x.masked_fill(gone.view(*gone.shape[:2], *[1] * (x.dim() - 2)), 0)


def each_way(x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(B, L, 2 H E) -> two of (B, L, H, E)."""
    return x.unflatten(-1, (2, heads, -1)).unbind(2)


def head_width(width: int, heads: int, parts: int) -> int:
    """Of H heads in each of `parts` parts of `width` channels. Raises ValueError if they do not divide it."""
    if heads < 1 or width % (heads * parts):
        raise ValueError(f"size.heads: {heads} times {parts} does not divide qkv_dim {width}")
    return width // (heads * parts)


def exact(layer: nn.Linear, x: Tensor) -> Tensor:
    """What `layer` makes of x, in float32 at least, under autocast too: gates add up along the length."""
    dtype = wide(x.dtype)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    with no_autocast(x):
        return F.linear(x.to(dtype), layer.weight.to(dtype), bias)


def undecayed(x: Tensor) -> nn.Parameter:
    """A parameter that weight decay leaves alone."""
    parameter = nn.Parameter(x)
    parameter.lra = {"decay": 0.0}
    return parameter


def linear(dim: int, width: int) -> nn.Linear:
    """A projection without bias, uniform as Glorot and Bengio (2010, eq. 16)."""
    layer = nn.Linear(dim, width, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def root_mean_square(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., E) by the root of its mean square, times a weight that broadcasts (Zhang and Sennrich 2019, eq. 4)."""
    return F.rms_norm(x, x.shape[-1:], eps=EPS) * weight.to(x.dtype)


class StepDecay(nn.Module):
    """Log decays from the input: dt = softplus(x + b), a = -exp(l) dt, as Mamba-2 has it (arXiv 2405.21060).

    b is such that dt is log-uniform in 0.001 to 0.1, and exp(l) uniform in `rates` at first; neither knows weight
    decay. `count` is the number of decays a position.
    """

    def __init__(self, dim: int, count: int, rates: tuple[float, float]) -> None:
        super().__init__()
        self.project = linear(dim, count)
        dt = torch.empty(count).uniform_(math.log(1e-3), math.log(1e-1)).exp_()
        self.bias = undecayed(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
        self.log_rate = undecayed(torch.empty(count).uniform_(*rates).log_())

    def forward(self, x: Tensor, gone: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B, L, D) -> dt and a (B, L, `count`), at least float32, both 0 at padding."""
        logits = exact(self.project, x)
        dt = nothing_at(gone, F.softplus(logits + self.bias.to(logits.dtype)))
        return dt, dt * -self.log_rate.to(logits.dtype).exp()


class HeadNorm(nn.Module):
    """Each head of each direction by its root mean square, times a weight that the heads of a direction share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1, width))

    def forward(self, ways: list[Tensor]) -> Tensor:
        """Two of (B, L, H, E) -> (B, L, 2 H E)."""
        return root_mean_square(torch.stack(ways, 2), self.weight).flatten(2)
