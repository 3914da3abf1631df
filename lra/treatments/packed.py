"""Padding left out of all that is done to each position alone: norms, feed-forward layers, residuals. The mixers are
given what they were. The same arithmetic on fewer positions; of a batch without padding, on as many."""

from __future__ import annotations

from typing import Any

from lra.treatments.examples import weight_bytes


class Packed:
    """Of a model whose stack can, and says so by `packs` (lra.models). Of another one `after` raises ValueError."""

    def after(self, trainee: Any) -> Any:
        stack = getattr(trainee.model, "stack", None)
        if stack is None:
            raise ValueError("the model has no stack of layers over tokens, of which some could be padding")
        if not hasattr(stack, "packs"):
            raise ValueError(f"{type(stack).__name__} does more than mixing that looks at other positions")
        stack.packs = True
        self.facts = {"weight_bytes": weight_bytes(trainee.model)}
        return trainee
