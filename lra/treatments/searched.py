"""Grids of the two factors of a product, searched for by what they do to the product.

    O = f a b,   O' = f Q(a) Q(b);   of 100 ends of each, from .01 to 1.2 of the largest, the one of least error, the
    other held, in turns

hessian      sum (O' - O)^2 (dL/dO)^2 over sum O^2 (dL/dO)^2, the squared gradient in the place of the Hessian's
             diagonal (Yuan et al. 2022, PTQ4ViT, arXiv 2111.12293, section 3.3)
similarity   1 - Pearson's correlation of O and O' (Liu et al. 2021, arXiv 2106.14156, section 3.1), and of attention
             scores besides `ranking` times the mean over pairs i, j of a query's keys of

                 max(0, .1 - (O'_i - O'_j) sign(O_i - O_j))                                      (section 3.2)

Twin grids have k - 1 bits each, and one says which (PTQ4ViT, section 3.2): of softmax weights one to 1 and one to 2^-m,
for what lies below it, m searched for; of what GELU gives one for what is below 0, which ends at GELU's least, and one
for what is above. Departures: pairs and rows are sampled; grids are symmetric; the margin .1 is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lra.treatments import ranges

SHARES = np.linspace(1.2, 0.01, 100)
NOISE = 1e-9  # errors that are no further apart are alike: the first counts, which clips least
SHIFTS = np.arange(20.0)
ROUNDS, MARGIN = 3, 0.1
GELU_LEAST = 0.1701  # its least is -.16997, of the form with tanh -.17004
METRICS = ("hessian", "similarity")

Quantiser = Callable[[Tensor, Tensor, int], Tensor]  # x (G, n, m), a number of each group (G, 1, 1), bits


def twin_softmax(x: Tensor, shift: Tensor, bits: int) -> Tensor:
    """x from 0 to 1 on the grid to 1, below 2^-shift on the one to 2^-shift."""
    fine = torch.exp2(-torch.as_tensor(shift, dtype=x.dtype, device=x.device))
    return torch.where(x < fine, ranges.onto(x, fine, bits), ranges.onto(x, 1.0, bits))


def twin_gelu(x: Tensor, end: Tensor, bits: int) -> Tensor:
    """x below 0 on the grid to GELU's least, above on the one to `end`."""
    return torch.where(x < 0, ranges.onto(x, GELU_LEAST, bits), ranges.onto(x, end, bits))


class Factor(NamedTuple):
    """parts: of each example (G, n, m), G groups with a grid each. quantise, tried: how, and the numbers (C, G) of
    which one is to be chosen for each group, the first of them the one to begin with."""

    parts: list[Tensor]
    quantise: Quantiser
    tried: Tensor

    def on(self, chosen: Tensor, bits: int) -> list[Tensor]:
        return [self.quantise(x, chosen.to(x.device, x.dtype).view(-1, 1, 1), bits) for x in self.parts]


class Product(NamedTuple):
    """scale: f. slopes: dL/dO of each example (G, n, m). seen: where O counts, or none: all. pairs: int64 (G, n, P, 2)
    of each example, the columns that are compared; none: there is no ranking."""

    a: Factor
    b: Factor
    slopes: list[Tensor]
    scale: float = 1.0
    seen: list[Tensor] | None = None
    pairs: list[Tensor] | None = None


def of_largest(parts: list[Tensor]) -> Tensor:
    """What is tried of a factor on a plain grid: (C, G)."""
    largest = torch.stack([x.abs().amax((1, 2)) for x in parts]).amax(0).double()
    return torch.as_tensor(SHARES, device=largest.device)[:, None] * largest


def searched(product: Product, bits: int, metric: str, ranking: float) -> tuple[Tensor, Tensor]:
    """The numbers (G,) that are chosen for a and b."""
    exact = multiplied(product, product.a.parts, product.b.parts)
    chosen = [product.a.tried[0], product.b.tried[0]]
    for _ in range(ROUNDS):
        before = [c.clone() for c in chosen]
        for mine, factor in ((1, product.b), (0, product.a)):  # weights are first, then what they are given
            other = (product.a, product.b)[1 - mine].on(chosen[1 - mine], bits)
            errors = []
            for tried in factor.tried:
                here = factor.on(tried, bits)
                found = multiplied(product, *((other, here) if mine else (here, other)))
                errors.append(error(product, exact, found, metric, ranking).cpu().numpy())
            best = np.argmax(np.stack(errors) <= np.min(errors, 0) + NOISE, 0)
            chosen[mine] = factor.tried[torch.as_tensor(best), torch.arange(len(best))]
        if all(torch.equal(a, b) for a, b in zip(before, chosen, strict=True)):
            break
    return chosen[0], chosen[1]


def multiplied(product: Product, a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [product.scale * (x @ y) for x, y in zip(a, b, strict=True)]


def error(product: Product, exact: list[Tensor], found: list[Tensor], metric: str, ranking: float) -> Tensor:
    """Of each group, float64 (G,)."""
    seen = product.seen or [torch.ones_like(x, dtype=torch.bool) for x in exact]
    if metric == "hessian":
        rows = list(zip(exact, found, product.slopes, seen, strict=True))
        off = sum(((y - x) * g).square().masked_fill(~s, 0).sum((1, 2)).double() for x, y, g, s in rows)
        size = sum((x * g).square().masked_fill(~s, 0).sum((1, 2)).double() for x, _, g, s in rows)
        return off / size.clamp(min=torch.finfo(torch.float64).tiny)
    total = 1 - correlation(exact, found, seen)
    return total + ranking * disorder(product, exact, found, seen) if ranking and product.pairs else total


def correlation(exact: list[Tensor], found: list[Tensor], seen: list[Tensor]) -> Tensor:
    """Pearson's, of each group over all examples (G,); 0 where one of them does not vary."""
    sums = 0
    for x, y, s in zip(exact, found, seen, strict=True):
        x, y = (t.double().masked_fill(~s, 0) for t in (x, y))
        sums = sums + torch.stack([t.sum((1, 2)) for t in (s.double(), x, y, x * y, x * x, y * y)])
    n, x, y, xy, xx, yy = sums
    both, one, two = n * xy - x * y, n * xx - x * x, n * yy - y * y
    # What rounding leaves of a variance of 0 is none.
    varies = (one > 1e-12 * n * xx) & (two > 1e-12 * n * yy)
    return torch.where(varies, both / (one * two).clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)


def disorder(product: Product, exact: list[Tensor], found: list[Tensor], seen: list[Tensor]) -> Tensor:
    """The ranking loss of each group, a mean over the pairs whose two columns count (G,)."""
    lost, count = 0, 0
    for x, y, s, at in zip(exact, found, seen, product.pairs, strict=True):
        (a, b), (c, d), (s, t) = (_pair(each, at) for each in (x, y, s))
        hinge = (MARGIN - (c - d) * (a - b).sign()).clamp(min=0).double()
        lost = lost + hinge.masked_fill(~(s & t), 0).sum((1, 2))
        count = count + (s & t).sum((1, 2))
    return lost / count.clamp(min=1)


def _pair(x: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """x (G, n, m), at (G, n, P, 2) -> two of (G, n, P)."""
    return x.gather(2, at[..., 0]), x.gather(2, at[..., 1])
