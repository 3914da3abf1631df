"""A pattern: blocks of queries, each with the keys that it may see, as lists of positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

KEYS_AT_ONCE = 4096


@dataclass(frozen=True)
class Part:
    """Blocks of queries and the keys they see, for `heads` = (first, end).

    queries int64 (S, W) and keys int64 (1 or end - first, S, M): positions, -1 where there is none.
    hidden bool (W, M), the same in every block: True where the query does not see the key.
    joins: its queries also stand in an earlier part with other keys; the softmax runs over both.
    A query never meets the same key twice.
    """

    queries: Tensor
    keys: Tensor
    heads: tuple[int, int]
    hidden: Tensor | None = None
    joins: bool = False

    @cached_property
    def band(self) -> Tensor | None:
        """`hidden` as what is added to the scores."""
        if self.hidden is None:
            return None
        return torch.zeros(self.hidden.shape, device=self.hidden.device).masked_fill_(self.hidden, -math.inf)

    def trimmed(self) -> Part:
        """The same without places that no block fills, as where the length is below the width of a block or window;
        of keys one is left."""
        rows, columns = (self.queries >= 0).any(0), (self.keys >= 0).flatten(0, 1).any(0)
        columns[0] |= not columns.any()
        hidden = None if self.hidden is None else self.hidden[rows][:, columns]
        if hidden is not None and not hidden.any():
            hidden = None
        return replace(self, queries=self.queries[:, rows], keys=self.keys[..., columns], hidden=hidden)

    @property
    def pairs(self) -> int:
        """How many scores are computed."""
        heads, (blocks, width) = self.heads[1] - self.heads[0], self.queries.shape
        return heads * blocks * width * self.keys.shape[-1]

    def to(self, device: torch.device) -> Part:
        hidden = None if self.hidden is None else self.hidden.to(device)
        return replace(self, queries=self.queries.to(device), keys=self.keys.to(device), hidden=hidden)


def within(positions: Tensor, length: int) -> Tensor:
    """Positions outside 0..length-1 become -1."""
    return positions.masked_fill((positions < 0) | (positions >= length), -1)


def starts(length: int, width: int, step: int = 1) -> Tensor:
    """First positions (S, 1) of tiles of `width` positions, `step` apart, that cover 0..length-1.

    The tiles are start + step x (0..width-1), interleaved where step > 1.
    """
    first = torch.arange(-(-length // (width * step))) * width * step
    return (first[:, None] + torch.arange(min(step, length))).view(-1, 1)


def all_keys(queries: Tensor, length: int, heads: tuple[int, int]) -> list[Part]:
    """Parts in which `queries` (N,) see every position, in pieces so that scores stay few."""
    pieces = torch.arange(length).split(KEYS_AT_ONCE)
    return [Part(queries[None], keys[None, None], heads, joins=i > 0) for i, keys in enumerate(pieces)]


def open_to_all(parts: Sequence[Part], count: int, length: int, rows: bool = True) -> list[Part]:
    """The same parts, with the first `count` positions seen by every query.

    These positions leave the other lists, as queries too; with `rows` they see all keys.
    """
    if not count:
        return list(parts)
    first = torch.arange(min(count, length))
    opened = []
    for part in parts:
        queries, keys = (positions.masked_fill(positions < count, -1) for positions in (part.queries, part.keys))
        hidden = part.hidden
        if not part.joins:
            keys = torch.cat((first.expand(*keys.shape[:2], -1), keys), dim=-1)
            if hidden is not None:
                hidden = torch.cat((hidden.new_zeros(len(hidden), len(first)), hidden), dim=-1)
        opened.append(replace(part, queries=queries, keys=keys, hidden=hidden))
    heads = (min(part.heads[0] for part in parts), max(part.heads[1] for part in parts))
    return opened + (all_keys(first, length, heads) if rows else [])


Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def everything(parts: Sequence[Part], rule: Rule, heads: int, length: int) -> int | None:
    """The number of the first query that stands in the parts, if all from there on see all keys; else None."""
    if not parts:
        return None
    first = min(int(part.queries[part.queries >= 0].min()) for part in parts)
    # Of patterns that leave much out, which is all of them at great lengths, nobody need ask the rule.
    if sum(part.pairs for part in parts) < heads * (length - first) * length:
        return None
    key = torch.arange(length)
    seen = rule(torch.arange(heads)[:, None, None], key[first:, None], key)
    return first if seen.all() else None
