"""Mixers and stacks with one fault each, for the audit to find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.models.transformer import FullAttention


class PaddingLeak(FullAttention):
    """Attends to padding."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return super().attend(q, k, v, torch.ones_like(mask))


class DenseMask(FullAttention):
    """A window of 64 positions, by an L x L mask: what many a "local attention" is."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        place = torch.arange(q.shape[2])
        seen = ((place[:, None] - place).abs() <= 64) & mask[:, None, None]
        scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~seen, -1e9)
        return scores.softmax(-1) @ v


class Unreached(FullAttention):
    """Has a parameter that it forgot to use."""

    def __init__(self, dim: int, heads: int, max_len: int) -> None:
        super().__init__(dim, heads, max_len)
        self.forgotten = nn.Linear(dim, dim)


class BatchCoupling(FullAttention):
    """Centres its input over the batch."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x - x.mean(0), mask)


class Normed(FullAttention):
    """Batch norm: an example sees the others while training only."""

    def __init__(self, dim: int, heads: int, max_len: int) -> None:
        super().__init__(dim, heads, max_len)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(self.norm(x.mT).mT, mask)


class OrderBlind(nn.Module):
    """A stack that adds the mean over all tokens to none of them: positions cancel in the pooling."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        weight = mask.to(x.dtype)[..., None]
        mean = (x.masked_fill(~mask[..., None], 0)).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        for layer in self.layers:
            mean = layer(mean).tanh()
        return mean.expand(x.shape)


class Restless(FullAttention):
    """Draws noise in every call."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x + 1e-3 * torch.randn_like(x), mask)


class Undefined(FullAttention):
    """Divides by the number of real tokens, whatever it is."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        share = mask.to(x.dtype)[..., None]
        x = x * share
        return super().forward(x, mask) + x.sum(1, keepdim=True) / share.sum(1, keepdim=True)


class Hashed(FullAttention):
    """Starts from weights that depend on the hash of a word."""

    def __init__(self, dim: int, heads: int, max_len: int) -> None:
        super().__init__(dim, heads, max_len)
        with torch.no_grad():
            self.out.weight.mul_(1 + hash("a word") % 10**6 / 10**6)


class Cropped(FullAttention):
    """Loses the last position of odd lengths."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x, mask)[:, : x.shape[1] // 2 * 2]


class Balanced(FullAttention):
    """Asks that its examples be alike on average, and does not say that this couples them."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = super().forward(x, mask)
        if self.training:
            self.extra_loss = (y * mask[..., None]).mean((0, 1)).square().sum()
        return y


class Declared(Balanced):
    """Says so."""

    couples_examples = True


class Noisy(FullAttention):
    """Draws noise while training, from torch's generator: nothing is wrong with it."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.1, self.training), mask)
