"""Which positions can move an answer at all: the inputs on one side, what is read out on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

PIECES = 16  # in which positions without a gradient are tried by value
PROBES = 8  # answers whose reach is asked for


def blind(model: nn.Module, batch: Any, vocabulary: int, seed: int = 0) -> Tensor:
    """Positions of which no answer that is asked for depends, bool (L,) or (2, L); the model is moved a little.

    batch: one example without padding. A position counts as seen if some answer has a gradient at its embedding;
    those without one (a memory that keeps none, a decision that has none) are tried by value: the tokens of a
    piece of neighbours are replaced, and if no answer changes by a bit the piece is blind. Parameters are moved a
    little from where they start, so that a gate which starts at zero does not hide what is behind it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).mul_(0.02)
            parameter.add_(noise.to(parameter))
    model.eval()
    read = batch.labels[0] >= 0 if batch.labels.dim() == 2 else None

    def answers(tokens: Tensor) -> Tensor:
        logits = model(tokens, batch.mask)[0]
        return logits if read is None else logits[read]

    unseen = torch.ones(batch.tokens[0].shape, dtype=torch.bool, device=batch.tokens.device)
    for gradient in gradients(model, lambda: answers(batch.tokens), batch.tokens):
        unseen &= (gradient == 0).all(-1).reshape(unseen.shape)
    if unseen.any():
        with torch.no_grad():
            _by_value(unseen, answers, batch.tokens, vocabulary, generator)
    return unseen.cpu()


def reached(
    model: nn.Module, batch: Any, vocabulary: int, octaves: Sequence[int], seed: int = 0
) -> list[dict[str, Any]]:
    """How far back an answer at a position can depend on the tokens: of each octave of distance, from `octaves[i]` to
    below twice that, the share of the positions before PROBES answers, evenly from the first to the last position, that
    can move theirs: [{"distance", "share"}], without octaves that do not fit. By value a piece of neighbours is seen or
    not.

    batch: one example without padding, answered at every position, (1, L). By gradient, and by value where there is
    none, as `blind`, which has to be asked before: it moves the parameters away from where they start.
    """
    tokens, length = batch.tokens, batch.tokens.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    seen, there = torch.zeros(length), torch.zeros(length)  # by distance
    for place in sorted({round(i * (length - 1) / (PROBES - 1)) for i in range(PROBES)}):

        def answer(tokens: Tensor, place: int = place) -> Tensor:
            return model(tokens, batch.mask)[0, place]

        unseen = torch.ones(length, dtype=torch.bool, device=tokens.device)
        for gradient in gradients(model, lambda: answer(tokens), tokens):
            unseen &= (gradient == 0).all(-1).reshape(length)
        unseen[place:] = False
        if unseen.any():
            with torch.no_grad():
                _by_value(unseen, answer, tokens, vocabulary, generator)
        before = (~unseen[:place]).cpu().flip(0)  # from a distance of 1 on
        seen[1 : place + 1] += before
        there[1 : place + 1] += 1
    found = [(first, seen[first : 2 * first].sum(), there[first : 2 * first].sum()) for first in octaves]
    return [{"distance": first, "share": float(some / all_)} for first, some, all_ in found if all_]


def gradients(model: nn.Module, answers: Callable[[], Tensor], tokens: Tensor) -> list[Tensor]:
    """Of a random sum of the answers, at every output of the model's first embedding that holds a vector for
    each of the tokens; none where nothing embeds as torch does."""
    embedding = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
    if embedding is None:
        return []
    outputs: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    hook = embedding.register_forward_hook(keep)
    try:
        logits = answers()
        weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(logits)
        (logits * weight).sum().backward()
    finally:
        hook.remove()
        model.zero_grad(set_to_none=True)
    return [o.grad for o in outputs if o.grad is not None and o.numel() // o.shape[-1] == tokens.numel()]


def _by_value(
    unseen: Tensor, answers: Callable[[Tensor], Tensor], tokens: Tensor, vocabulary: int, generator: torch.Generator
) -> None:
    """Strike out of `unseen` what moves an answer when it is replaced."""
    before = answers(tokens)
    others = torch.randint(1, vocabulary, tokens.shape, generator=generator).to(tokens)
    others = torch.where(others == tokens, others % (vocabulary - 1) + 1, others)

    def moves(piece: Tensor) -> bool:
        return not torch.equal(answers(torch.where(piece, others, tokens)), before)

    if not moves(unseen[None]):
        return
    places = unseen.flatten().nonzero().flatten()
    for part in places.tensor_split(min(PIECES, len(places))):
        piece = torch.zeros_like(unseen).flatten().index_fill(0, part, True).view_as(unseen)
        if moves(piece[None]):
            unseen &= ~piece
