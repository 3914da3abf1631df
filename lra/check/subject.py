"""What is audited, and how an answer looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lra.settings import build
from lra.settings.schema import Settings

VOCABULARY, CLASSES = 64, 10
TOLERANCE = 1e-5  # what the contract allows float32 answers to differ by, relative to the largest


@dataclass
class Finding:
    """One point of the card. status: "ok", "note" (worth knowing, no breach) or "fail"."""

    name: str
    status: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sizes:
    """What a model is told of an exam, where there is none."""

    max_len: int
    documents: int = 1
    vocab_size: int = VOCABULARY
    num_classes: int = CLASSES
    answers: str = "sequence"


class Subject:
    """Builds the model of a configuration at any size, always from the same seed.

    length: the `max_len` of the model for all points but growth. Tokens and masks come from a
    generator of their own, so that they do not depend on what was built before.
    """

    def __init__(self, settings: Settings, length: int = 1024) -> None:
        self.settings, self.length = settings, length

    @property
    def depth(self) -> int:
        return int(self.settings.model["depth"])

    def build(self, length: int | None = None, documents: int = 1, **options: Any) -> nn.Module:
        """The model for inputs of up to `length`; `options` replace entries of `model`."""
        settings = replace(self.settings, model={**self.settings.model, **options})
        torch.manual_seed(self.settings.seed)
        return build.model(settings, Sizes(max_len=length or self.length, documents=documents))

    def tokens(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """int64 (batch, length) in [1, VOCABULARY)."""
        return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))

    def states(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """Random input of the stack, float32 (batch, length, D)."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, length, int(self.settings.model["dim"]), generator=generator)


def padded(lengths: list[int], width: int | None = None) -> Tensor:
    """bool (B, width): True on the first `lengths[b]` positions."""
    return torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]


def difference(a: Tensor, b: Tensor) -> float:
    """Largest |a - b| relative to the largest |b|, or inf if anything is not finite."""
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) if a.numel() else 0.0


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
