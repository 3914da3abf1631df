"""Whether the gradient of a batch is that of its parts, as it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lra.models.parts.chance import tell
from lra.train.parts import couples
from lra.train.trainee import extra_loss

ROUNDING = 1e-4  # of a float32 gradient; what couples examples moves it by a hundredth at least


def divided(model: nn.Module, tokens: Tensor, mask: Tensor, parts: Sequence[Sequence[int]]) -> tuple[float, str]:
    """How far the gradient of the parts is from that of the whole, relative to its norm, in `train()`, and what
    that means: "same"; "coupled", where the model says so and 0 is all that is known; "drawn", where the whole has
    another gradient each time, as of torch's generator, so that parts change the numbers but not their law; or
    "other".

    tokens, mask (B, L) or (B, 2, L), padded at the end; parts: rows of them.
    """
    if couples(model) is not None:
        return 0.0, "coupled"
    model.train()
    whole = gradient(model, tokens, mask, [range(len(tokens))])
    found = apart(gradient(model, tokens, mask, parts), whole)
    if found <= ROUNDING:
        return found, "same"
    again = apart(gradient(model, tokens, mask, [range(len(tokens))]), whole)
    return found, "drawn" if again > ROUNDING else "other"


def gradient(model: nn.Module, tokens: Tensor, mask: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
    """Of the mean over examples of a random sum of their answers, and of what modules ask for besides, by all
    parameters, (N,); each part is padded to its own longest, and counts by its number of examples."""
    model.zero_grad(set_to_none=True)
    for part in parts:
        rows = torch.tensor(list(part), device=tokens.device)
        longest = int(mask[rows].sum(-1).max())
        real = mask[rows][..., :longest]
        tell(model, 0, 0, rows)
        answers = model(tokens[rows][..., :longest], real)
        loss = (answers * _weights(answers, tokens, rows, real)).sum() / len(tokens)
        if (extra := extra_loss(model.modules())) is not None:
            loss = loss + extra * (len(rows) / len(tokens))
        loss.backward()
    found = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return torch.cat(found)


def _weights(answers: Tensor, tokens: Tensor, rows: Tensor, real: Tensor) -> Tensor:
    """Of each answer, whatever part it is in; 0 in the padding."""
    generator = torch.Generator().manual_seed(1)
    positions = tokens.shape[1:] if answers.dim() == 3 else ()
    weights = torch.randn(len(tokens), *positions, answers.shape[-1], generator=generator).to(answers)[rows]
    return weights[:, : real.shape[1]] * real[..., None] if positions else weights


def apart(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, or inf if anything is not finite."""
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    return float((a - b).norm() / b.norm().clamp(min=1e-30))
