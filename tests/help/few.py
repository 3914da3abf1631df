"""One model of each mechanism, for tests of what is ours around a model and not its own.

The rest of the models are behind the marker `slow`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

FEW = (
    "transformer", "linear", "linformer", "local", "performer", "reformer", "sinkhorn", "transformer_xl", "s4d", "gla",
    "gated_deltanet", "lstm", "mega", "chordmixer",
)  # fmt: skip


def others_slow(models: Iterable[str], few: Iterable[str] = FEW) -> list[pytest.ParameterSet]:
    """The models, all but `few` as slow ones."""
    return [pytest.param(m, marks=() if m in few else pytest.mark.slow) for m in models]
