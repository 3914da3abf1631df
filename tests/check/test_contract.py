"""Every configs/model/*.yaml keeps the contract of `models`: a new file is tested without a new test.

Point by point in the slow suite; in the fast one by the short contract of tests/check/test_short.py.
"""

from __future__ import annotations

from functools import cache

import pytest
import yaml

from lra.check.card import ask, points
from lra.check.growth import growth
from lra.check.subject import Subject
from lra.root import CONFIGS
from lra.settings.compose import config
from tests.help.composed import settings
from tests.help.few import others_slow, sequence_models

MODELS = sequence_models()
# Long enough for two segments of 512, several blocks of every kind, and none of them whole.
LENGTH = 600
TINY = ["size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16"]
# Dropout of weights, of what is hashed or sorted, of a state, of a convolution.
KINDS = ("transformer", "reformer", "sinkhorn", "gla", "s4d", "lstm", "mega")
POINTS = {name: point for name, point in points().items() if name != "reach"}  # nothing can break there
# Quadratic by their definition, L^1.5, one layer more with every doubling, or with a logarithm of Fourier transforms.
FOURIER = ("s4d", "s4d_block", "sgconv", "longconv", "hyena", "fnet", "lambda_global")
QUADRATIC = ("transformer", "synthesizer", "chordmixer", "blockwise", "compressed", "evolved", "gau", "kvt", "lsra")
QUADRATIC += ("hard_match", "span_conv", "switch_transformer", "transformer_sanm")
ROOT = ("sparse", "axial", "routing")
FULL_LATER = ("sparse", "chordmixer")  # what they look at still grows at 512
BOUNDS = {**dict.fromkeys(QUADRATIC), **dict.fromkeys(ROOT, 1.6), **dict.fromkeys(FOURIER, 1.25)}


@cache
def subject(model: str, *more: str) -> Subject:
    return Subject(settings(f"model={model}", *TINY, *more), LENGTH)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("model", others_slow(MODELS))
def test_point(model: str, point: str) -> None:
    for finding in ask(point, POINTS[point], subject(model)):
        assert finding.status != "fail", f"{model}: {finding.name}: {finding.text}"


@pytest.mark.parametrize("model", others_slow(MODELS, KINDS))
def test_cls_and_dropout(model: str) -> None:
    options = ["size.pooling=cls", "size.dropout=0.1", "size.attention_dropout=0.2"]
    built = subject(model, *options)
    for point in ("finite", "gradients", "repeatable", "padding"):
        for finding in ask(point, POINTS[point], built):
            assert finding.status != "fail", f"{model}: {finding.name}: {finding.text}"


def test_claims_are_made() -> None:
    for model in MODELS:
        text = (CONFIGS / "model" / f"{model}.yaml").read_text()
        assert set(yaml.safe_load(text)["claims"]) == {"time", "memory"}, model


@pytest.mark.parametrize("model", others_slow(MODELS, {"linear", "local", "s4d", "lstm", "mega"}))
def test_memory_grows_as_claimed(model: str) -> None:
    lengths = (1024, 2048, 4096) if model in FULL_LATER else (512, 1024, 2048)
    memory = growth(subject(model, "size.depth=1"), lengths=lengths, clock=False)[-1]
    assert memory.status == "ok", f"{model}: {memory.text}"


@pytest.mark.slow
@pytest.mark.parametrize("model", [m for m in MODELS if BOUNDS.get(m, 1) is not None])
def test_growth_from_1024_to_16384(model: str) -> None:
    """The bars of the project, on a full training step of the stack."""
    time, memory = growth(Subject(config([f"model={model}"])), lengths=(1024, 2048, 4096, 8192, 16384), seconds=600)
    assert time.numbers["overall"] <= BOUNDS.get(model, 1.15), time.text
    assert memory.numbers["overall"] <= 1.10, memory.text
