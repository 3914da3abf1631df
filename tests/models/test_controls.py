"""The controls: nothing from beyond the window, whatever the depth, and all that is in it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.classifier import Classifier
from lra.models.identity import Identity
from lra.models.parts.factory import build
from lra.models.stack import ResidualStack
from lra.models.window5 import Window5
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, gelu, wake
from tests.help.recurrence import masks

DIM = 6


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """A position at a time: its neighbours side by side, each with a 1, or zeros where there is none."""
    y = torch.zeros_like(x)
    for b, i in mask.nonzero().tolist():
        sight = []
        for j in range(i - 2, i + 3):
            there = 0 <= j < x.shape[1] and bool(mask[b, j])
            sight += [x[b, j], x.new_ones(1)] if there else [x.new_zeros(DIM + 1)]
        inner = gelu(w["inner.weight"] @ torch.cat(sight) + w["inner.bias"])
        y[b, i] = w["outer.weight"] @ inner + w["outer.bias"]
    return y


@pytest.mark.parametrize("length", [1, 3, 40])
def test_the_window_equals_its_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Window5(DIM)
    wake(layer)
    assert_equation(layer, slow, torch.randn(5, length, DIM), masks(length))


@pytest.mark.parametrize("control", [Identity(), Window5(DIM, layer=1), Window5(DIM, layer=3)])
def test_identity_and_later_layers_give_back_what_is_real(control: torch.nn.Module) -> None:
    x, mask = torch.randn(5, 30, DIM), masks(30)
    filled = x.masked_fill(~mask[..., None], float("nan"))
    assert torch.equal(control(filled, mask), x * mask[..., None]) and not list(control.parameters())


@pytest.mark.parametrize(("control", "reach"), [(Identity, 0), (Window5, 2)])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_whole_model_sees_its_window_and_no_further(control: type, reach: int, depth: int) -> None:
    """Which answers a token moves: all from -reach to +reach that are real, and no other."""
    torch.manual_seed(depth)
    sizes = {"depth": depth, "dim": 16, "heads": 2, "mlp_dim": 16, "dropout": 0.0}
    model = Classifier(9, 3, 30, control, ResidualStack, answers="token", **sizes).double().eval()
    wake(model)
    tokens, mask = torch.randint(1, 9, (1, 30)), torch.ones(1, 30, dtype=torch.bool)
    mask[0, [4, 11, 12, 28, 29]] = False
    with torch.no_grad():
        before = model(tokens, mask)[0]
        for place in range(30):
            changed = tokens.clone()
            changed[0, place] = tokens[0, place] % 8 + 1
            moved = (model(changed, mask)[0] != before).any(-1) & mask[0]
            near = (torch.arange(30) - place).abs() <= reach
            assert torch.equal(moved, near & mask[0] & mask[0, place]), place


@pytest.mark.parametrize("control", [Identity, Window5, partial(Window5, layer=1)])
def test_they_keep_the_contract(control: type) -> None:
    assert_mixer(partial(build, control))
