"""Recurrences by chunks: what a chunk of positions does at once by products of matrices, and the state between them.

A scan goes along the length, from the last position to the first where `reverse`. Positions are cut
in its order into S chunks of Q, the last filled with zeros, and chunks are worked through several at
a time so that buffers stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lra.models.parts.tiles import budget, wide


@dataclass(frozen=True)
class Part:
    """Chunks `first` to `end` (not included), in the order of the scan."""

    first: int
    end: int

    @property
    def count(self) -> int:
        return self.end - self.first

    @property
    def chunks(self) -> slice:
        return slice(self.first, self.end)


class Chunks:
    """Cuts tensors (B, L, H, ...) into chunks of `size` positions."""

    def __init__(self, batch: int, length: int, heads: int, size: int, reverse: bool) -> None:
        self.batch, self.length, self.heads, self.size, self.reverse = batch, length, heads, size, reverse
        self.count = -(-length // size)

    def parts(self, width: int, device: torch.device) -> list[Part]:
        """All chunks, in pieces in which (..., Q, width) of every example and head fits a buffer."""
        step = max(1, budget(device) // (self.batch * self.heads * self.size * width))
        return [Part(first, min(first + step, self.count)) for first in range(0, self.count, step)]

    def positions(self, part: Part) -> slice:
        first, end = part.first * self.size, min(part.end * self.size, self.length)
        return slice(self.length - end, self.length - first) if self.reverse else slice(first, end)

    def take(self, x: Tensor, part: Part) -> Tensor:
        """x (B, L, H, ...) -> (B H, S of the part, Q, ...), at least float32; may share memory with x.

        x (B, L, 1, ...) is common to all heads.
        """
        x = x[:, self.positions(part)].to(wide(x.dtype))
        if self.reverse:
            x = x.flip(1)
        if missing := part.count * self.size - x.shape[1]:
            x = torch.cat((x, x.new_zeros(len(x), missing, *x.shape[2:])), 1)
        x = x.expand(-1, -1, self.heads, *x.shape[3:])
        return x.unflatten(1, (part.count, self.size)).movedim(3, 1).flatten(0, 1)

    def put(self, x: Tensor, part: Part, taken: Tensor) -> None:
        """Write what has the shape of `take` to where it was taken from: the sum, if that was common to all heads."""
        at = self.positions(part)
        each = taken.unflatten(0, (self.batch, self.heads))
        if x.shape[2] < self.heads:
            each = each.sum(1, keepdim=True)
        rows = each.movedim(1, 3).flatten(1, 2)[:, : at.stop - at.start]
        x[:, at] = rows.flip(1) if self.reverse else rows


def carry(kept: Tensor, state: Tensor, factor: Tensor, added: Tensor, back: bool = False) -> Tensor:
    """The state from chunk to chunk: state <- factor[:, s] * state + added[:, s], kept[:, s] = state before.

    state (N, E, P), kept and added (N, S, E, P), factor (N, S, ...) that broadcasts. From the last chunk to
    the first if `back`. Gives the state after all of them.
    """
    for s in steps(kept.shape[1], back):
        kept[:, s] = state
        state = torch.addcmul(added[:, s], factor[:, s], state)
    return state


def steps(count: int, back: bool) -> Iterator[int]:
    return iter(range(count - 1, -1, -1) if back else range(count))


def sums_from(x: Tensor) -> Tensor:
    """What the gradient of a running sum over dimension 2 is: sum_{i >= t} x_i, added in float64."""
    return x.double().flip(2).cumsum(2).flip(2)
