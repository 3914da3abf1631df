"""Tokens left out between layers: those that the layer has attended to least (Goyal et al. 2020, PoWER-BERT, arXiv
2001.08950, section 3.2; Kim et al. 2022, learned token pruning, arXiv 2107.00910, eq. 2), without retraining.

Unlike theirs a token that is left out keeps the state that it has by then and comes back before the last norm, so that
exams which ask at positions can be answered, and a mean is over as many as before. How many stay follows from the
number of an example's real tokens alone, so that neither padding nor companions move it. The only pruning that scales
with length; for mixers that say what is attended, by a method `attended(x, mask)`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lra.treatments.examples import alone, called, share_of, weight_bytes


class Tokens:
    """share: of the real tokens that are left, how many go after each layer but the last. Raises ValueError."""

    def __init__(self, share: float = 0.25) -> None:
        self.share = share_of("share", share)

    def after(self, trainee: Any) -> Any:
        stack = getattr(trainee.model, "stack", None)
        layers = list(getattr(stack, "layers", ()))
        for layer in layers:
            mixer = getattr(layer, "mixer", None)
            if not callable(getattr(mixer, "attended", None)):
                raise ValueError("the model has a mixer that does not say what it attends to")
            if getattr(mixer, "rotary", False):
                raise ValueError("rotary positions are counted over the tokens that are left; take another position")
        if getattr(stack, "packs", False):
            raise ValueError("the tokens of the stack are packed, which it would be no more; leave tokens out first")
        if len(layers) < 2 or not callable(getattr(stack, "norm", None)):
            raise ValueError("the model has no stack of two layers or more with a norm behind them")
        trainee.model.stack = Fewer(stack, self.share)
        called(trainee, next(alone(trainee, 1)))  # a mixer that cannot say it raises here
        self.facts = {
            "left": counts(trainee.exam.max_len, self.share, len(layers)),
            "weight_bytes": weight_bytes(trainee.model),
        }
        return trainee


def counts(length: int, share: float, depth: int) -> list[int]:
    """Real tokens that each layer sees, of `length`."""
    out = [length]
    for _ in range(depth - 1):
        out.append(int(kept(torch.tensor(out[-1]), share)))
    return out


def kept(number: Tensor, share: float) -> Tensor:
    """How many stay of so many, rounded up; one at least."""
    return torch.ceil(number * (1 - share) - 1e-9).long().clamp(min=1)


class Fewer(nn.Module):
    """The stack, whose layers see fewer and fewer tokens: (B, L, D), (B, L) -> (B, L, D)."""

    def __init__(self, stack: nn.Module, share: float) -> None:
        super().__init__()
        self.stack, self.share = stack, share

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        whole = x
        place = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        layers = list(self.stack.layers)
        for layer in layers:
            scores: list[Tensor] = []
            if layer is not layers[-1]:
                hook = layer.mixer.register_forward_pre_hook(
                    lambda mixer, given, scores=scores: scores.append(mixer.attended(given[0], given[1]))
                )
            try:
                x = layer(x, mask)
            finally:
                if layer is not layers[-1]:
                    hook.remove()
            at = place.unsqueeze(-1).expand_as(x)
            whole = whole.scatter(1, at, torch.where(mask.unsqueeze(-1), x, whole.gather(1, at)))
            if scores:
                x, mask, place = self.fewer(x, mask, place, scores[0])
        return self.stack.norm(whole)

    def fewer(self, x: Tensor, mask: Tensor, place: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The most attended, in their order; of equals the first. x (B, L, D), mask, place and score (B, L)."""
        order = score.masked_fill(~mask, -1.0).argsort(dim=1, descending=True, stable=True)
        number = kept(mask.sum(1, keepdim=True), self.share)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(x.shape[1], device=x.device).expand_as(order))
        stays = (rank < number) & mask
        chosen = (~stays).int().argsort(dim=1, stable=True)[:, : int(number.max())]
        mask, place = stays.gather(1, chosen), place.gather(1, chosen)
        return x.gather(1, chosen.unsqueeze(-1).expand(-1, -1, x.shape[-1])), mask, place
