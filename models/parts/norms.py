"""Norms of published stacks besides LayerNorm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.parts.tiles import wide


class ScaleNorm(nn.Module):
    """g x / sqrt(mean(x^2) + 1e-6) over the last dimension, g one number, 1 at first, in float32 at least.

    Nguyen and Salazar 2019, arXiv 1910.05895.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(wide(x.dtype))
        return (self.gain.to(y.dtype) * F.rms_norm(y, y.shape[-1:], eps=1e-6)).to(x.dtype)


class BatchNorm(nn.Module):
    """BatchNorm (Ioffe and Szegedy 2015, arXiv 1502.03167) over the real tokens of a batch, a channel at a time.

    While training examples see each other, which the contract of `models` forbids: the audit says so, and every table
    that shows such a run. Padding has no say. In `eval()` running averages take the place of the batch's, of momentum
    0.1, the variance without bias. eps 1e-5, in float32 at least.
    """

    couples_examples = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, L, D)."""
        y = x.to(wide(x.dtype))
        mean, variance = self.mean.to(y.dtype), self.variance.to(y.dtype)
        if self.training:
            count = mask.sum().clamp(min=1)
            gone = ~mask.unsqueeze(-1)
            mean = y.masked_fill(gone, 0).sum((0, 1)) / count
            variance = (y - mean).masked_fill(gone, 0).square().sum((0, 1)) / count
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean.dtype), 0.1)
                unbiased = variance * (count / (count - 1).clamp(min=1))
                self.variance.lerp_(unbiased.to(self.variance.dtype), 0.1)
        y = (y - mean) * (variance + 1e-5).rsqrt() * self.weight.to(y.dtype) + self.bias.to(y.dtype)
        return y.to(x.dtype)


def normed(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """x (B, L, D) by `norm`, whether it looks at the mask (B, L) or not."""
    return norm(x, mask) if isinstance(norm, BatchNorm) else norm(x)


def refuse_recomputed(batchnorm: bool, checkpoint: bool) -> None:
    """Raises ValueError for both: running averages would count each batch twice."""
    if batchnorm and checkpoint:
        raise ValueError("model.checkpoint: true is not possible with batchnorm, which would count each batch twice")
