"""FNet: the real part of a Fourier transform over positions and width, without parameters (Lee-Thorp et al. 2021,
arXiv 2105.03824).

    y = Re DFT_positions(DFT_width(x))

An example of n real tokens is transformed with period n, whatever the padded length: what is published transforms
the padding too. For a batch of many n this is done with Bluestein's chirp,

    X_k = w_k sum_t (x_t w_t) conj(w_(k-t)),   w_t = exp(-i pi t^2 / n)

a convolution by FFTs of one length for all, in which t^2 is reduced modulo 2 n as an integer: so the phase is exact
at any position. Real tokens are transformed in their order, a hole in the mask is deleted.

Time O(L D (log L + log D)), memory O(L D). Departures: none but the period.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.conv import transform_length
from lra.models.parts.heads import all_real, real_first
from lra.models.parts.tiles import no_autocast, wide


class FNet(nn.Module):
    """(B, L, D), (B, L) -> (B, L, D). Nothing to learn; zeros where there is padding."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        with no_autocast(x):
            u = x.to(wide(x.dtype))
            if all_real(mask):
                return torch.fft.fft(torch.fft.fft(u, dim=2), dim=1).real.to(x.dtype)
            hidden, order = ~mask.unsqueeze(-1), real_first(mask).unsqueeze(-1).expand_as(u)
            front = torch.fft.fft(u.masked_fill(hidden, 0).gather(1, order), dim=2)
            y = torch.zeros_like(u).scatter(1, order, transformed(front, mask.sum(1)).real)
            return y.masked_fill(hidden, 0).to(x.dtype)


def transformed(x: Tensor, counts: Tensor) -> Tensor:
    """Each example's DFT over its first n positions: complex x (B, L, D), zero beyond n, counts (B,) of n -> (B, L, D).

    What stands at n and beyond is of no use.
    """
    length = x.shape[1]
    n, place = counts.clamp(min=1)[:, None], torch.arange(length, device=x.device)
    phase = math.pi * (place.square() % (2 * n)).double() / n
    chirp = torch.polar(torch.ones_like(phase), -phase).to(x.dtype)  # (B, L)
    period = transform_length(length)
    around = F.pad(chirp.conj(), (0, period - length))
    around[:, period - length + 1 :] = chirp.conj()[:, 1:].flip(1)
    chirp = chirp.unsqueeze(-1)
    spectrum = torch.fft.fft(x * chirp, period, dim=1) * torch.fft.fft(around).unsqueeze(-1)
    return torch.fft.ifft(spectrum, dim=1)[:, :length] * chirp
