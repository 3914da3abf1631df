"""Modes of linear systems, exp(z t) with complex z in the left half plane: their powers, kernels and initial values.

A power over thousands of steps shows what is lost in z: the products z t are formed in float64 and their phase
is brought into one turn there, before anything is rounded. For the same reason `Rates` are never narrowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lra.models.parts.tiles import no_autocast, wide


class Rates(nn.Module):
    """Parameters (of any shape, by name) that stay float32 when the model around them becomes bfloat16.

    rate: ratio of their learning rate to that of the other parameters; they have no weight decay.
    """

    def __init__(self, rate: float, **values: Tensor) -> None:
        super().__init__()
        if rate <= 0:
            raise ValueError(f"model.mixer.rate: {rate} is not above 0")
        for name, value in values.items():
            self.register_parameter(name, slow(value.to(torch.get_default_dtype()), rate))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rates:
        def careful(t: Tensor) -> Tensor:
            made = fn(t)
            return t.to(made.device, wide(made.dtype)) if wide(made.dtype) != made.dtype else made

        return super()._apply(careful, recurse)


def slow(value: Tensor, rate: float) -> nn.Parameter:
    """A parameter at `rate` times the learning rate of the others, without weight decay."""
    parameter = nn.Parameter(value)
    parameter.lra = {"rate": rate, "decay": 0.0}
    return parameter


def powers(z: Tensor, steps: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(z t): z (..., N) complex128, t (T,) -> (..., T, N) in the complex type over `dtype`."""
    return _Powers.apply(z, steps.double(), dtype)


class _Powers(torch.autograd.Function):
    """Keeps the result only, which whoever multiplies by it keeps anyway."""

    @staticmethod
    def forward(ctx, z: Tensor, steps: Tensor, dtype: torch.dtype) -> Tensor:
        exponent = z.unsqueeze(-2) * steps[:, None]
        turn = 2 * math.pi
        phase = exponent.imag - turn * (exponent.imag / turn).round()
        out = torch.polar(exponent.real.to(dtype).exp(), phase.to(dtype))
        ctx.save_for_backward(out, steps)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        out, steps = ctx.saved_tensors
        return ((out.conj() * grad).to(torch.complex128) * steps[:, None]).sum(-2), None, None


def mode_kernel(z: Tensor, weights: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Taps Re sum_n w_n exp(z_n l), l = 0 .. L-1: z (D, N), weights (G, D, N), complex128 -> (G, D, L) of `dtype`.

    With l = i Q + j this is a product of two small tables, exp(z i Q) and exp(z j), Q near the root of L:
    memory O(D N sqrt L) instead of O(D N L). The real part of a product is the dot product of one factor and
    the conjugate of the other, as pairs of numbers.
    """
    width = math.isqrt(length - 1) + 1
    groups, device = len(weights), z.device
    with no_autocast(z):
        coarse = powers(z, torch.arange(0, length, width, device=device), dtype)
        fine = powers(z.conj().resolve_conj(), torch.arange(width, device=device), dtype)
        left = (weights.to(coarse.dtype).unsqueeze(2) * coarse).transpose(0, 1).flatten(1, 2)
        taps = torch.view_as_real(left).flatten(-2) @ torch.view_as_real(fine).flatten(-2).mT
    return taps.unflatten(1, (groups, -1)).transpose(0, 1).flatten(2)[..., :length]


def linear_frequencies(state: int) -> Tensor:
    """pi n, (N,) float64: S4D-Lin (Gu et al. 2022, arXiv 2206.11893)."""
    return math.pi * torch.arange(state, dtype=torch.float64)


def inverse_frequencies(state: int) -> Tensor:
    """(M / pi) (M / (2 n + 1) - 1) with M = 2 N, (N,) float64: S4D-Inv (the same)."""
    size = 2 * state
    return size / math.pi * (size / (2 * torch.arange(state, dtype=torch.float64) + 1) - 1)


def legs(state: int) -> tuple[Tensor, Tensor]:
    """Of the normal part of HiPPO-LegS for 2 N states, half of each conjugate pair: frequencies (N,), ascending, and
    the eigenvectors (2 N, N) that belong to them; float64 and complex128.

    The normal part is A + P P^T, A_nk = -sqrt((2n+1)(2k+1)) below the diagonal and -(n+1) on it, P_n = sqrt(n + 1/2)
    (Gu et al. 2022, arXiv 2111.00396): -1/2 and a skew matrix, so all modes decay alike.
    """
    n = torch.arange(2 * state, dtype=torch.float64)
    low = (n + 0.5).sqrt()
    skew = torch.outer(low, low)
    skew = skew.triu(1) - skew.tril(-1)
    frequencies, vectors = torch.linalg.eigh(-1j * skew)
    # An eigenvector is known up to a phase, which another library may choose otherwise: the first entry decides.
    vectors = vectors[:, state:] * (vectors[0, state:].abs() / vectors[0, state:])
    return frequencies[state:], vectors


def log_steps(count: int, dt_min: float, dt_max: float) -> Tensor:
    """Log-uniform step sizes, (count,). Raises ValueError unless 0 < dt_min <= dt_max."""
    if not 0 < dt_min <= dt_max:
        raise ValueError(f"model.mixer.dt_min: {dt_min} is not above 0 and at most dt_max {dt_max}")
    low, high = math.log(dt_min), math.log(dt_max)
    return low + (high - low) * torch.rand(count)
