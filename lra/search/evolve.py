"""An evolutionary search over sizes, as HAT's (Wang et al. 2020, arXiv 2005.14187, section 3.3): the best are kept, one
half of the others are changed a little, the other half are crossed. Here a size goes to its neighbour as often as to
any other value, because costs grow with sizes, and what was looked at before is not made again. Where there are no more
sizes than it would look at, all are looked at."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

Sizes = tuple[int, ...]

POPULATION, PARENTS, ROUNDS = 40, 10, 15
MOST = POPULATION * (ROUNDS + 1)
MUTATION = 0.3  # that one of the sizes becomes another


def evolved(choices: Sequence[Sequence[int]], fits: Callable[[Sizes], bool], worth: Callable[[Sizes], float], seed: int,
            begin: Sequence[Sizes] = ()) -> list[tuple[Sizes, float]]:  # fmt: skip
    """(sizes, what they are worth) of all that were looked at, best first. choices: of each size. begin: sizes of the
    first population, which are known to fit."""
    draw = random.Random(seed)
    known: dict[Sizes, float] = {}

    def looked_at(sizes: Sizes) -> Sizes:
        if sizes not in known:
            known[sizes] = worth(sizes)
        return sizes

    def fitting(make: Callable[[], Sizes]) -> Sizes | None:
        return next((s for s in (make() for _ in range(100)) if s not in known and fits(s)), None)

    def fresh() -> Sizes:
        return tuple(draw.choice(options) for options in choices)

    def other(size: int, options: Sequence[int]) -> int:
        at = options.index(size) + draw.choice((-1, 1))
        return options[max(0, min(at, len(options) - 1))] if draw.random() < 0.5 else draw.choice(options)

    def mutant(parents: Sequence[Sizes]) -> Sizes:
        parent = draw.choice(parents)
        return tuple(
            other(size, options) if draw.random() < MUTATION else size
            for size, options in zip(parent, choices, strict=True)
        )

    def crossed(parents: Sequence[Sizes]) -> Sizes:
        return tuple(draw.choice(pair) for pair in zip(draw.choice(parents), draw.choice(parents), strict=True))

    def made(how: Callable[[], Sizes]) -> list[Sizes]:
        """One that is new, and looked at; where that way leads to none, any."""
        new = fitting(how) or fitting(fresh)
        return [] if new is None else [looked_at(new)]

    if math.prod(map(len, choices)) <= MOST:
        return ranked({s: worth(s) for s in product(*choices) if fits(s)})
    population = [looked_at(s) for s in begin]
    for _ in range(POPULATION - len(begin)):
        population += made(fresh)
    for _ in range(ROUNDS):
        parents = sorted(set(population), key=lambda s: (-known[s], s))[:PARENTS]
        population = list(parents)
        for i in range(POPULATION):
            population += made(partial((mutant, crossed)[i % 2], parents))
    return ranked(known)


def ranked(known: Mapping[Sizes, float]) -> list[tuple[Sizes, float]]:
    return sorted(known.items(), key=lambda item: (-item[1], item[0]))
