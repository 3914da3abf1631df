"""One model of each mechanism, for tests of what is ours around a model and not its own.

The rest of the models are behind the marker `slow`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lra.settings.words import choices

PIXELS = ("axial_image", "fpt", "swin", "vit", "vit_hybrid")  # tests/models/test_pixels.py holds it against the files
FEW = (
    "transformer", "linear", "linformer", "local", "performer", "reformer", "sinkhorn", "transformer_xl", "s4d", "gla",
    "gated_deltanet", "lstm", "mega", "chordmixer",
)  # fmt: skip


def others_slow(models: Iterable[str], few: Iterable[str] = FEW) -> list[pytest.ParameterSet]:
    """The models, all but `few` as slow ones."""
    return [pytest.param(m, marks=() if m in few else pytest.mark.slow) for m in models]


def sequence_models() -> list[str]:
    """Names of all models but those that know an image's rows and columns, and sit exams of images alone."""
    return [name for name in choices("model") if name not in PIXELS]
