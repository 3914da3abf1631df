"""The gated attention unit and FLASH against all of their weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.gau import GAU
from lra.models.parts import tiles
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_twin, saved_bytes
from tests.help.paper import turned


def silu(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return y / (1 + (-y).exp())


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, group: int | None) -> Tensor:
    length = x.shape[1]
    u, v, z = (silu(w, name, x) for name in ("gate", "value", "base"))
    q, k, *far = (z * g + b for g, b in zip(w["gamma"], w["beta"], strict=True))
    of = torch.arange(length) // (group or length)
    same = (of[:, None] == of) & mask[:, None]  # (B, L, L)
    near, there = (turned(row.expand(length, -1)) for row in w["bias"])
    scores = q @ k.mT / same.sum(-1, keepdim=True).clamp(min=1) + near @ there.T
    y = scores.clamp(min=0).square() * same @ v
    if far:
        y = y + far[0] @ far[1].mT * mask[:, None] @ v / mask.sum(1).clamp(min=1)[:, None, None]
    return u * y @ w["out.weight"].T + w["out.bias"]


@pytest.mark.parametrize("group", [None, 16])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 60])
def test_the_layer_equals_the_equation(length: int, group: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 queries at a time."""
    monkeypatch.setattr(tiles, "CPU_BLOCK", 1)
    torch.manual_seed(length)
    assert_twin(GAU(10, keys=6, group=group), partial(equation, group=group), 10, length, awake=0.4)


def test_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(GAU(4, keys=4, group=64), 4)


def test_no_weights_are_kept() -> None:
    layer, x = GAU(16, keys=8), torch.randn(1, 800, 16, requires_grad=True)
    assert saved_bytes(lambda: layer(x, torch.ones(1, 800, dtype=torch.bool))) < 40 * x.numel() * 4 < 800 * 800 * 4


def test_bad_options_are_told() -> None:
    for field in ("expand", "keys", "group"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0"):
            GAU(16, **{field: 0})
    assert GAU(4, expand=1, keys=2, group=1).out.weight.shape == (4, 4)
    with pytest.raises(ValueError, match="model.mixer.keys: 5 is not even"):
        GAU(16, keys=5)


def test_it_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    layer = GAU(64)
    for weight in (layer.gate.weight, layer.base.weight, layer.gamma, layer.out.weight):
        assert 0.017 < weight.std() < 0.023
    assert layer.gate.weight.shape == (128, 64) and layer.base.weight.shape == (128, 64) and not layer.beta.any()


def test_keeps_the_contract() -> None:
    for group in (None, 16):
        assert_mixer(partial(build, partial(GAU, group=group)))
