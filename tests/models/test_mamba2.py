"""Mamba-2 against its recurrence."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.mamba2 import Mamba2
from lra.models.parts.factory import build
from lra.settings.schema import Train
from lra.train.optim import optimizer
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, wake
from tests.help.recurrence import convolved, masks, recurrent, remembered

HEADS, STATE = 3, 5


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """The recurrence with B, C, dt, A, d and convolutions of each way."""
    real = mask[..., None].double()
    y = 0
    for way, reverse in enumerate((False, True)):
        memory = (x @ w["memory.weight"].T).chunk(2, -1)[way]
        v, bc = (
            convolved(t, w[f"{name}.{way}.weight"], w[f"{name}.{way}.bias"], reverse)
            for name, t in (("conv_value", x @ w["value.weight"].T), ("conv_memory", memory))
        )
        v = v.unflatten(-1, (HEADS, -1))
        b, c = (t.unsqueeze(2).expand(-1, -1, HEADS, -1) for t in bc.split(STATE, -1))
        at = slice(way * HEADS, (way + 1) * HEADS)
        dt = (1 + (x @ w["step.project.weight"].T + w["step.bias"])[..., at].exp()).log() * real
        y = y + remembered(c, b, v, -w["step.log_rate"][at].exp() * dt, dt, reverse) + w["skip"][way] * v
    y = y.flatten(2) * F.silu(x @ w["gate.weight"].T)
    return y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["norm"] @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 70])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Mamba2(10, HEADS, qkv_dim=12, state=STATE, conv_kernel=3)
    wake(layer)
    assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


def test_a_long_hole_is_passed_over() -> None:
    """Where no window of four lies over its ends the state is as it was: other numbers and other lengths of it."""
    torch.manual_seed(0)
    layer, x = Mamba2(16, 2, state=4), torch.randn(2, 90, 16)
    answers = []
    for hole in (10, 40):
        given = torch.cat((x[:, :40], torch.full((2, hole, 16), torch.nan), x[:, 40:]), 1)
        mask = torch.ones(2, 90 + hole, dtype=torch.bool)
        mask[:, 40 : 40 + hole] = False
        answers.append(layer(given, mask)[mask])
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-6)


def test_turned_round() -> None:
    """With the two ways exchanged, the input turned round turns the output round."""
    torch.manual_seed(0)
    layer, other, x = Mamba2(16, 2, state=4), Mamba2(16, 2, state=4), torch.randn(2, 90, 16)
    wake(layer)
    state = {n: p.clone() for n, p in layer.state_dict().items()}
    for name in ("memory.weight", "step.project.weight", "step.bias", "step.log_rate", "skip"):
        state[name] = torch.cat(state[name].chunk(2)[::-1])
    for name in ("conv_value", "conv_memory"):
        for part in ("weight", "bias"):
            for way in (0, 1):
                state[f"{name}.{1 - way}.{part}"] = layer.state_dict()[f"{name}.{way}.{part}"]
    other.load_state_dict(state)
    mask = torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(other(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    layer = Mamba2(64, 500, qkv_dim=1000)
    for name in ("gate", "value", "memory", "out"):
        weight = getattr(layer, name).weight
        assert_xavier(weight, *weight.shape)
    assert layer.memory.weight.shape == (256, 64)
    dt = F.softplus(layer.step.bias)
    assert dt.min() > 0.99e-3 and dt.max() < 0.101
    assert abs(dt.log().mean() - math.log(1e-2)) < 0.15
    rate = layer.step.log_rate.exp()
    assert rate.min() >= 1 and rate.max() <= 16 and abs(rate.mean() - 8.5) < 0.5
    assert torch.equal(layer.skip, torch.ones(2, 500, 1)) and torch.equal(layer.norm, torch.ones(1000))
    assert layer.conv_value[0].weight.shape == (1000, 4) and layer.conv_memory[1].weight.shape == (128, 4)


def test_weight_decay_leaves_steps_and_skips_alone() -> None:
    groups = optimizer(Mamba2(16, 2), Train(weight_decay=0.1)).param_groups
    (free,) = [group["names"] for group in groups if group["weight_decay"] == 0]
    assert sorted(free) == ["skip", "step.bias", "step.log_rate"] and len(groups) == 2


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="size.heads: 3 times 1 does not divide qkv_dim 16"):
        Mamba2(16, 3)
    with pytest.raises(ValueError, match="model.mixer.state: 0 is not above 0"):
        Mamba2(16, 2, state=0)
    with pytest.raises(ValueError, match="model.mixer.conv_kernel: 0"):
        Mamba2(16, 2, conv_kernel=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, Mamba2))
