"""How sharply the loss bends along a layer's weights: the top eigenvalue of that block of its Hessian.

    H v = (g(w + h v) - g(w - h v)) / 2 h,   g the gradient of the loss, v of length 1, all in float64

and v <- H v / |H v| again and again (Shen et al. 2020, Q-BERT, arXiv 1909.05840, section 3.1). Not by differentiating
twice, as there: the backward passes of several mixers are written out, and a second pass through them would be wrong
without a word, while what they return is as right at w + h v as at w. Off by 1e-9 of its size; where a stack rounds
what it hands on (Reformer's, to 2^-30), by 1e-4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lra.train.batches import stream

STEP = 1e-5  # h, of the length of the weights: near the cube root of float64's rounding, where both errors are least
TURNS, STILL = 20, 1e-2  # turns of the iteration at most, and the change of the eigenvalue that ends it
PARTS = 4  # of the examples, each with an eigenvalue of its own


def along(loss: Callable[[], Tensor], weights: Sequence[Tensor], v: Sequence[Tensor]) -> list[Tensor]:
    """H v for the Hessian of `loss()` in these float64 leaves, which are left as they were; v of any length above 0."""
    h = STEP * max(1.0, length(weights)) / length(v)
    kept, sides = [w.detach().clone() for w in weights], []
    try:
        for sign in (h, -h):
            with torch.no_grad():
                for w, k, d in zip(weights, kept, v, strict=True):
                    w.copy_(k + sign * d)
            sides.append(torch.autograd.grad(loss(), weights))
    finally:
        with torch.no_grad():
            for w, k in zip(weights, kept, strict=True):
                w.copy_(k)
    return [(up - down) / (2 * h) for up, down in zip(*sides, strict=True)]


def length(parts: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(p.detach().square().sum()) for p in parts))


def top(loss: Callable[[], Tensor], weights: Sequence[Tensor], draw: torch.Generator) -> float:
    """The eigenvalue of largest size, with its sign."""
    v = [torch.randn(w.shape, generator=draw, dtype=w.dtype).to(w.device) for w in weights]
    found = 0.0
    for _ in range(TURNS):
        size = length(v)
        v = [part / size for part in v]
        bent = along(loss, weights, v)
        before, found = found, sum(float((a * b).sum()) for a, b in zip(v, bent, strict=True))
        if not length(bent) or abs(found - before) <= STILL * abs(found):
            break
        v = bent
    return found


def sharpness(trainee: Any, blocks: Mapping[str, Mapping[str, nn.Linear]], count: int) -> dict[str, float]:
    """Of each block (its layers by name) |mean| + deviation of the top eigenvalue over the parts of `count` training
    examples (Q-BERT, eq. 3). Raises ValueError where the model does not compute in float64."""
    model = copy.deepcopy(trainee.model).double().eval()
    draw = torch.Generator().manual_seed(trainee.seed)
    split, found = trainee.exam.split("train"), {name: [] for name in blocks}
    indices = next(stream(split.lengths, count, trainee.seed, endless=getattr(split, "endless", False)))
    for part in np.array_split(indices, min(PARTS, count)):
        batch = trainee.exam.collate([split[int(i)] for i in part]).to(trainee.acc.device)

        def loss(batch: Any = batch) -> Tensor:
            return trainee.exam.loss(model(batch.tokens, batch.mask), batch)

        if loss().dtype != torch.float64:
            raise ValueError("the Hessian is taken in float64, and the model's loss is not")
        for name, layers in blocks.items():
            weights = [model.get_submodule(each).weight for each in layers]
            found[name].append(top(loss, weights, draw))
    return {name: abs(fmean(values)) + pstdev(values) for name, values in found.items()}
