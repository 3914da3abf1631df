"""Hamburger against its updates, one example after the other, without padding."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.hamburger import Hamburger
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, bases: Tensor, steps: int) -> Tensor:
    out = x.new_zeros(*x.shape[:2], len(bases))
    for n, real in enumerate(mask):
        data = (x[n, real] @ w["lower.weight"].T + w["lower.bias"]).clamp(min=0)
        a, b = data.detach(), bases.double()
        c = (a @ b).softmax(1)
        for _ in range(steps):
            c = c * (a @ b) / (c @ b.T @ b + 1e-6)
            b = b * (a.T @ c) / (b @ c.T @ c + 1e-6)
        out[n, real] = c * (data @ b) / (c @ b.T @ b + 1e-6) @ b.T
    return out @ w["upper.weight"].T


@pytest.mark.parametrize("length", [1, 2, 50])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Hamburger(10, qkv_dim=12, rank=5)
    assert_twin(layer, partial(equation, bases=layer.bases, steps=6), 10, length)


def test_it_recovers_what_has_low_rank() -> None:
    torch.manual_seed(0)
    layer = Hamburger(12, rank=4, steps=300)
    with torch.no_grad():
        layer.lower.weight.copy_(torch.eye(12))
        layer.upper.weight.copy_(torch.eye(12))
        x = torch.rand(1, 60, 4) @ torch.rand(4, 12)
        y = layer(x, torch.ones(1, 60, dtype=torch.bool))
    assert (y - x).norm() < 0.03 * x.norm()


def test_bases_have_unit_length_and_bad_options_are_told() -> None:
    bases = Hamburger(16).bases
    assert bases.shape == (16, 64) and (bases >= 0).all()
    torch.testing.assert_close(bases.norm(dim=0), torch.ones(64))
    assert Hamburger(16, rank=1, steps=1).bases.shape == (16, 1)
    for field in ("rank", "steps"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0"):
            Hamburger(16, **{field: 0})


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, partial(Hamburger, rank=6)), bf16=0.2)  # the updates start from what was rounded
