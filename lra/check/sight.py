"""What a model can see: the order of its tokens, and how far away."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lra.check.readout import blind
from lra.check.subject import TOLERANCE, VOCABULARY, Finding, Subject, difference

PROBES = 8
DEPTHS = (1, 2, 4)


def order(subject: Subject) -> Finding:
    """Shuffled tokens must move the answer; if they do not, the model counts tokens."""
    given = str(subject.settings.model["position"])
    moved = shuffled(subject, given)
    bare = moved if given == "none" else shuffled(subject, "none")
    numbers = {"position": given, "moved": moved, "moved_without_positions": bare}
    without = "is blind to order" if bare <= TOLERANCE else "sees order"
    if moved > TOLERANCE:
        text = f"shuffled tokens move the answer by {moved:.1e}; without positions the model {without}"
        return Finding("order", "ok", text, numbers)
    if given == "none":
        text = "blind to order: no positions are given (model.position=none) and the mixer knows none"
        return Finding("order", "note", text, numbers)
    text = f"blind to order: shuffled tokens move the answer by {moved:.1e} in spite of {given} positions"
    return Finding("order", "fail", text, numbers)


def readout(subject: Subject) -> Finding:
    """How much of an example the answer can depend on, as this model is read out; being blind is no breach."""
    length, pooling = subject.length, str(subject.settings.model.get("pooling"))
    tokens = subject.tokens(1, length)
    example = Example(tokens, torch.ones_like(tokens, dtype=torch.bool), torch.zeros(1, dtype=torch.long))
    unseen = blind(subject.build(), example, VOCABULARY)
    share = float(unseen.float().mean())
    numbers = {"length": length, "pooling": pooling, "blind": share}
    if not share:
        return Finding("readout", "ok", f"pooling {pooling}: every one of {length:,} positions can move it", numbers)
    text = f"pooling {pooling}: {share:.1%} of {length:,} positions cannot move the answer, the first of them at"
    return Finding("readout", "note", f"{text} {int(unseen.nonzero()[0]):,}", numbers)


class Example(NamedTuple):
    """One that fills the length."""

    tokens: Tensor
    mask: Tensor
    labels: Tensor


def shuffled(subject: Subject, position: str) -> float:
    """How far a permutation of all tokens moves the logits, the first token kept for CLS-like ones."""
    length = subject.length
    model = subject.build(position=position).eval()
    tokens, mask = subject.tokens(2, length), torch.ones(2, length, dtype=torch.bool)
    places = torch.cat(
        (torch.zeros(1, dtype=torch.long), 1 + torch.randperm(length - 1, generator=torch.Generator().manual_seed(2)))
    )
    with torch.no_grad():
        return difference(model(tokens[:, places], mask), model(tokens, mask))


def reach(subject: Subject) -> Finding:
    """Which positions an output depends on, for 1, 2 and 4 layers.

    learns: the Jacobian of the stack at some outputs, where it is not zero. sees: the outputs that
    change when an input is replaced. The two differ where gradients are stopped (a cached memory)
    or a decision has none (hashing).
    """
    length = subject.length
    numbers: dict[str, Any] = {"length": length, "probes": PROBES, "layers": {}}
    for depth in DEPTHS:
        stack = subject.build(depth=depth).eval().stack
        numbers["layers"][str(depth)] = {"learns": learns(stack, subject), "sees": sees(stack, subject)}
    parts = []
    for depth, both in numbers["layers"].items():
        learned, seen = both["learns"], both["sees"]
        text = describe(learned)
        # Rows of the dependency against columns: patterns drawn at random differ a little there.
        if learned["max"] != seen["max"] or abs(learned["share"] - seen["share"]) > 0.1:
            text += f" by gradient, {describe(seen)} by value"
        parts.append(f"{depth}: {text}")
    return Finding("reach", "ok", f"layers, distance, share of {length:,}: {'; '.join(parts)}", numbers)


def describe(reached: dict[str, float]) -> str:
    low, high = reached["min"], reached["max"]
    return f"{low:,}{f' to {high:,}' if high != low else ''} ({reached['share']:.0%})"


def probes(length: int) -> list[int]:
    """Positions from the first to the last, evenly."""
    return sorted({round(i * (length - 1) / (PROBES - 1)) for i in range(PROBES)})


def reached(connected: list[Tensor], at: list[int]) -> dict[str, float]:
    """Of bool (L,) for each probe: farthest distance (min, median, max over probes), mean share."""
    far = [
        int((torch.arange(len(c))[c] - place).abs().max()) if c.any() else 0
        for c, place in zip(connected, at, strict=True)
    ]
    share = statistics.mean(float(c.float().mean()) for c in connected)
    return {"min": min(far), "median": statistics.median(far), "max": max(far), "share": share}


def learns(stack: torch.nn.Module, subject: Subject) -> dict[str, float]:
    """Inputs with a gradient from each probed output."""
    at = probes(subject.length)
    x = subject.states(1, subject.length).requires_grad_()
    mask = torch.ones(1, subject.length, dtype=torch.bool)
    weight = subject.states(1, 1, seed=3)[0, 0]
    found = []
    for place in at:
        # Forward each time: a mixer may use up what it kept for the backward pass.
        (gradient,) = torch.autograd.grad(stack(x, mask)[0, place] @ weight, x, allow_unused=True)
        found.append(torch.zeros(subject.length, dtype=torch.bool) if gradient is None else gradient[0].any(-1))
    return reached(found, at)


def sees(stack: torch.nn.Module, subject: Subject) -> dict[str, float]:
    """Outputs that change when a probed input does. Equal shapes are computed alike, to the bit."""
    at = probes(subject.length)
    x = subject.states(1, subject.length)
    other = subject.states(1, subject.length, seed=4)
    mask = torch.ones(1, subject.length, dtype=torch.bool)
    with torch.no_grad():
        before = stack(x, mask)
        found = []
        for place in at:
            changed = x.clone()
            changed[0, place] = other[0, place]
            found.append((stack(changed, mask) != before)[0].any(-1))
    return reached(found, at)
