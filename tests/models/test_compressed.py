"""Memory-compressed attention against keys that are made one after the other."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.compressed import Compressed
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import join, projected, softmax_over


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, factor: int, by: str, heads: int = 3) -> Tensor:
    q, k, v = projected(w, x, heads)
    blocks, real = {"key": [], "value": []}, []
    for start in range(0, x.shape[1], factor):
        here = range(start, min(start + factor, x.shape[1]))
        real.append(mask[:, list(here)].any(1))
        for name, t in (("key", k), ("value", v)):
            if by == "conv":
                taps = w[f"taps.{name}"].unflatten(1, (factor, -1))  # (H, c, E, E)
                block = sum(torch.einsum("bhe,hef->bhf", t[:, :, i], taps[:, i - start]) for i in here)
            else:
                block = sum(t[:, :, i] for i in here) / mask[:, list(here)].sum(1).clamp(min=1)[:, None, None]
            blocks[name].append(block)
    keys, values = (torch.stack(blocks[name], 2) for name in ("key", "value"))
    return join(softmax_over(q, keys, values, torch.stack(real, 1)[:, None, None])) @ w["out.weight"].T


@pytest.mark.parametrize("by", ["conv", "mean"])
@pytest.mark.parametrize("length", [1, 3, 4, 50])
def test_the_layer_equals_the_equation(length: int, by: str) -> None:
    torch.manual_seed(length)
    layer = Compressed(15, 3, 50, qkv_dim=12, by=by)
    assert_twin(layer, partial(equation, factor=3, by=by), 15, length)


def test_a_factor_of_one_compresses_nothing() -> None:
    torch.manual_seed(0)
    assert_twin(Compressed(15, 3, 9, qkv_dim=12, factor=1), partial(equation, factor=1, by="conv"), 15, 9)


def test_it_starts_as_convolutions_do() -> None:
    torch.manual_seed(0)
    taps = Compressed(64, 2, 50, factor=4).taps["key"].detach()
    bound = (4 * 32) ** -0.5
    assert taps.shape == (2, 128, 32) and taps.abs().max() <= bound and abs(taps.std() / bound - 3**-0.5) < 0.01


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.factor: 0 is not above 0"):
        Compressed(16, 2, 40, factor=0)
    with pytest.raises(ValueError, match="model.mixer.by: 'max' is not one of conv, mean"):
        Compressed(16, 2, 40, by="max")


def test_keeps_the_contract() -> None:
    for by in ("conv", "mean"):
        assert_mixer(partial(build, partial(Compressed, by=by)))
