"""Mixed precision: more bits where the loss bends more, by the Hessian's top eigenvalues (Shen et al. 2020, Q-BERT,
arXiv 1909.05840), imitated in floats.

Layers of the stack are the blocks that have a number of bits each, a linear layer outside of them is one by itself.
Output channels share a range by so many neighbours, as Q-BERT's sub-groups of six do; inputs have 8 bits. Q-BERT hands
out bits by the rank of the eigenvalues and by hand. Here they are those by which the sum over blocks of

    lambda |Q(W) - W|^2 / 2

is least, which a rise of the loss to second order does not exceed at a minimum, while the mean over all weights is no
more than what is asked for; none has fewer than 2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.curvature import sharpness
from lra.treatments.examples import at_least_one, in_bits, linears, of_linears, rate_of, steps_of
from lra.treatments.fake_quant import BITS, FakeQuant
from lra.treatments.straight import tuned

LEAST, INPUTS = BITS[0], 8


class Mixed:
    """bits: of a weight on average, 2 to 24. group: output channels that share a range. examples: that inputs are seen
    of, and the Hessian is of. steps, learning_rate: of training through the quantisers, as of Qat. Raises ValueError.
    """

    def __init__(
        self, bits: float = 4, group: int = 6, examples: int = 32, steps: int = 0, learning_rate: float = 1e-4
    ) -> None:
        if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not BITS[0] <= bits <= BITS[1]:
            raise ValueError(f"treatment.bits: {bits!r} is not from {BITS[0]} to {BITS[1]}")
        self.bits, self.most = bits, max(INPUTS, math.ceil(bits))
        self.group, self.examples = at_least_one("group", group), at_least_one("examples", examples)
        self.steps, self.learning_rate = steps_of("steps", steps), rate_of("learning_rate", learning_rate)

    def after(self, trainee: Any) -> Any:
        layers, end = linears(trainee), partial(ends, group=self.group)
        blocks = blocks_of(layers)
        inputs = FakeQuant(self.most, examples=self.examples).ends(trainee, layers)
        sharp = sharpness(trainee, blocks, self.examples)
        sizes = [sum(m.weight.numel() for m in each.values()) for each in blocks.values()]
        lost = [[sharp[name] / 2 * off(each.values(), end, bits) for bits in range(LEAST, self.most + 1)]
                for name, each in blocks.items()]  # fmt: skip
        bits = dict(zip(blocks, shared(sizes, lost, self.bits), strict=True))
        mean = sum(n * b for n, b in zip(sizes, bits.values(), strict=True)) / sum(sizes)
        self.facts = {
            "executed": False,
            **of_linears(trainee, layers),
            "weight_bytes": in_bits(trainee.model, layers, mean),
            "bits": bits,
            "mean_bits": mean,
            "sharpness": sharp,
        }
        of_each = {name: bits[block] for block, each in blocks.items() for name in each}
        given = {name: (float(value), self.most) for name, value in inputs.items()}
        self.facts["training"] = tuned(trainee, layers, of_each, end, given, self.steps, self.learning_rate)
        return trainee


def blocks_of(layers: Mapping[str, nn.Linear]) -> dict[str, dict[str, nn.Linear]]:
    """Linear layers by the numbered module that they lie in, or each by itself."""
    out: dict[str, dict[str, nn.Linear]] = {}
    for name, layer in layers.items():
        found = re.match(r".+?\.\d+(?=\.)", name)
        out.setdefault(found[0] if found else name, {})[name] = layer
    return out


def ends(weight: Tensor, group: int) -> Tensor:
    """(R, N) -> (R, 1): the largest of each `group` neighbouring rows, the last of which may be fewer."""
    largest = [rows.abs().max().expand(len(rows)) for rows in weight.split(group)]
    return torch.cat(largest).unsqueeze(1)


@torch.no_grad()
def off(layers: Any, end: Any, bits: int) -> float:
    """How far the weights of these are from their grids, squared."""
    return sum(float((ranges.onto(m.weight, end(m.weight), bits) - m.weight).double().square().sum()) for m in layers)


def shared(sizes: Sequence[int], lost: Sequence[Sequence[float]], mean: float) -> list[int]:
    """Bits of each block, of which each weight has `mean` on average or less, by which least is lost in all.

    sizes: weights of each. lost: by block what is lost with LEAST bits, with one more, and so on. Of blocks taken one
    after the other is kept, by what they cost, only what loses less than all that costs less.
    """
    kept: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for size, losses in zip(sizes, lost, strict=True):
        tried: dict[int, tuple[float, tuple[int, ...]]] = {}
        for cost, (before, bits) in kept.items():
            for own, more in enumerate(losses, LEAST):
                if (spent := cost + size * own) > mean * sum(sizes) + 1e-6:
                    break
                tried[spent] = min((before + more, (*bits, own)), tried.get(spent, (math.inf, ())))
        kept, least = {}, math.inf
        for cost, found in sorted(tried.items()):
            if found[0] < least:
                kept[cost], least = found, found[0]
    return list(min(kept.values())[1])
