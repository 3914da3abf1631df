"""What is drawn in training: a function of (seed, step, module, example, place) and of nothing else.

So an example draws the same numbers alone, in a part of its batch or in the whole of it, in whatever
order, padded to whatever length, on however many threads, and again when its layer is computed a
second time in the backward pass. No generator is kept: each number is a hash of where it stands.

Keys are 64 bits: the finaliser of SplitMix64 (Steele et al. 2014, OOPSLA, figure 15) on a key plus a
multiple of an odd constant, level by level. The n x m numbers of a matrix are then one product each,

    z_ij = r_i c_j mod 2^32, read with its sign;   r_i odd and c_j from the keys of row i and of column j

and dropped are the lowest of them, as many as the rate says, to 2^-32. Three passes over integers draw
and apply it, where torch's generator takes thirty times as long. Given the rows, z is uniform and
independent from column to column; given the columns, from row to row but for a c_j of many factors of
two, which is as rare as it is even. Only two rows whose factors stand in a ratio of small numbers, one
pair in hundreds of millions, would drop alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lra.models.parts.redrawn import Redrawn

_STRIDE, _FIRST, _SECOND = (
    value - 2**64 if value >> 63 else value for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, int64 to int64, a bijection in which each bit of z moves half of all bits."""
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        z = (z ^ (z >> shift & (1 << 64 - shift) - 1)) * factor
    return z ^ (z >> 31 & (1 << 33) - 1)


def under(keys: Tensor, places: Tensor) -> Tensor:
    """The key of each place under each key: int64 (...), (n,) -> (..., n)."""
    return mixed(keys.unsqueeze(-1) + (places + 1) * _STRIDE)


def keys_of(keys: Tensor, count: int, first: int = 0) -> Tensor:
    """`under` for the places first..first + count - 1."""
    return under(keys, torch.arange(first, first + count, device=keys.device))


def halves(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Two keys from each, for the rows and for the columns of a matrix."""
    return keys_of(keys, 2).unbind(-1)


def odd(keys: Tensor) -> Tensor:
    """Factors of rows, int32."""
    return (keys >> 32 | 1).to(torch.int32)


def any32(keys: Tensor) -> Tensor:
    """Factors of columns, int32."""
    return (keys >> 32).to(torch.int32)


def threshold(rate: float) -> int:
    """What is dropped is below it: of all int32, the share `rate`."""
    return min(round(rate * 2**32), 2**32 - 1) - 2**31


def scale(rate: float) -> float:
    """1 / (1 - rate), of the rate that `threshold` really has."""
    return 2**32 / (2**31 - threshold(rate))


class Drops(NamedTuple):
    """Which attention weights are dropped: of query i and key j by the product rows_i columns_j.

    rows int32 (B, H, queries), columns int32 (B, H, keys), of all the positions that there are.
    """

    rows: Tensor
    columns: Tensor
    rate: float

    def of(self, weights: Tensor) -> Tensor:
        """Weights (B or 1, H, queries, keys) as they are after the dropout."""
        return _Drop.apply(weights, self.rows.unsqueeze(-1), self.columns.unsqueeze(-2), self.rate)


def drawn(rows: Tensor, columns: Tensor, into: Tensor) -> Tensor:
    """The numbers of a matrix: integers as wide as those of `into` (..., n, m), float32 or float64, in its memory.

    rows int32 (..., n, 1), columns int32 (..., 1, m).
    """
    if into.dtype == torch.float64:
        return into.view(torch.int64).copy_(rows * columns)
    return torch.mul(rows, columns, out=into.view(torch.int32))


def keep(x: Tensor, numbers: Tensor, rate: float, into: Tensor) -> Tensor:
    """x with 0 in place of what `drawn` numbers drop, bit by bit, in `into`, which may be either's memory.

    One pass: the gradient of a threshold is to keep what is above it, and integers have one too.
    """
    last = max(threshold(rate) - 1, -(2**31))
    if x.element_size() != numbers.element_size():
        return into.copy_(x).masked_fill_(numbers <= last, 0)
    x, out = (t.view(numbers.dtype) for t in (x, into))
    torch.ops.aten.threshold_backward.grad_input(x, numbers, last, grad_input=out)
    return into


def keep_both(weights: Tensor, gradient: Tensor, numbers: Tensor, rate: float) -> Tensor:
    """Weights with 0 in place of what is dropped, in the memory of `drawn` numbers; of their gradient too, in place."""
    keep(gradient, numbers, rate, gradient)
    return keep(weights, numbers, rate, numbers.view(weights.dtype))


class Chance(nn.Module):
    """A stream of random numbers of a module's own: no parameters, nothing in the state_dict.

    It finds its keys where `tell` left them. If nobody told, or `train()` or `eval()` was called since,
    it draws one from torch's generator at each call, as torch's own modules do.
    """

    def __init__(self, draws: bool = True) -> None:
        """draws: False for one that has nothing to draw (a rate of 0), which `tell` need not work out keys for."""
        super().__init__()
        self.draws = draws
        self.told: Tensor | None = None

    def train(self, mode: bool = True) -> Chance:
        self.told = None
        return super().train(mode)

    def keys(self, rows: int, device: torch.device) -> Tensor:
        """int64 (rows,): of each example or, if there are several rows to one, of each of them in their order.

        Raises ValueError if the rows are no multiple of the examples that were told of.
        """
        if self.told is None:
            return keys_of(torch.randint(2**62, (), device=device), rows)
        if rows % len(self.told):
            raise ValueError(f"tell: {len(self.told)} examples were told of, which {rows} rows do not divide into")
        return keys_of(self.told.to(device), rows // len(self.told)).flatten()

    def drops(self, shape: Sequence[int], rate: float, device: torch.device) -> Drops:
        """Of weights (B, H, queries, keys) of that shape; rate in [0, 1)."""
        batch, heads, queries, keys = shape
        of_rows, of_columns = halves(keys_of(self.keys(batch, device), heads))
        return Drops(odd(keys_of(of_rows, queries)), any32(keys_of(of_columns, keys)), rate)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers in (0, 1), odd multiples of 2^-24 (of 2^-53 in float64): (B, ...) like `like`."""
        keys = self.keys(len(like), like.device)
        for size in like.shape[1:]:
            keys = keys_of(keys, size)
        digits = 52 if like.dtype == torch.float64 else 23  # one more for the half: 0 and 1 have no logarithm to use
        return ((keys >> 64 - digits & (1 << digits) - 1).to(like.dtype) + 0.5) * 2.0**-digits


class _Drop(torch.autograd.Function):
    """x (..., n, m) with the numbers dropped that rows (..., n, 1) and columns (..., 1, m) say."""

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor, columns: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(rows, columns)
        ctx.rate = rate
        return x * (rows * columns).ge_(threshold(rate)) * scale(rate)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Drop.apply(grad, *ctx.saved_tensors, ctx.rate), None, None, None


class Dropout(Chance):
    """Dropout (Srivastava et al. 2014, section 4) with keyed numbers; what is kept is times 1 / (1 - p).

    tied: a channel is dropped at all positions of an example or at none. Raises ValueError for p outside [0, 1).
    """

    def __init__(self, p: float = 0.5, tied: bool = False) -> None:
        super().__init__(draws=p > 0)
        if not 0 <= p < 1:
            raise ValueError(f"dropout: {p} is not in [0, 1)")
        self.p, self.tied = p, tied

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """(B, L, ..., D) -> the same; x starts at position `first` of its length."""
        if not self.training or not self.p:
            return x
        rows, columns = halves(self.keys(len(x), x.device))
        columns = any32(keys_of(columns, x.shape[-1]))
        for i, size in enumerate(x.shape[1:-1]):
            rows = rows.unsqueeze(-1) if self.tied else keys_of(rows, size, 0 if i else first)
        columns = columns[(slice(None), *[None] * (x.dim() - 2))]
        return _Drop.apply(x, odd(rows).unsqueeze(-1), columns, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}{', tied' * self.tied}"


def listening(model: nn.Module) -> list[nn.Module]:
    """The modules that `tell` speaks to, in their order: found once, where it is called at every step."""
    return [module for module in model.modules() if isinstance(module, (Chance, Redrawn))]


def tell(model: nn.Module | Sequence[nn.Module], seed: int, step: int, examples: Tensor) -> None:
    """Say what the next forward pass in training is keyed by.

    step: number of the optimizer step, from 0. examples: int64 (B,), the place of each example in the
    whole batch of that step; a pair of documents is one example. It holds until the next `tell`,
    `train()` or `eval()`, and the backward pass must come before: layers may be computed again there.

    Every `Chance` in the model gets keys of its own, by its order in the model, of which those modules that draw
    will do; buffers that are drawn again every N steps (`redrawn`) count this step instead of backward passes.
    Modules of other hands (nn.Dropout, say) keep to torch's generator. Raises ValueError for a step below 0 or
    examples that are not one int64 each.
    """
    if step < 0:
        raise ValueError(f"step: {step} is not 0 or more")
    if examples.dim() != 1 or examples.dtype != torch.int64 or not len(examples):
        raise ValueError(f"examples: {examples.dtype} {tuple(examples.shape)} is not int64 (B,)")
    streams = []
    for module in model.modules() if isinstance(model, nn.Module) else model:
        if isinstance(module, Chance):
            streams.append(module)
        if isinstance(module, Redrawn):
            module.at_step(step)
    if not any(module.draws for module in streams):
        return
    of_seed, steps = torch.tensor([seed % 2**62, step], device=examples.device).split(1)
    keys = under(keys_of(under(mixed(of_seed), steps), len(streams)), examples)
    for module, own in zip(streams, keys.flatten(0, -2), strict=True):
        module.told = own
