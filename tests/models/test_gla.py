"""Gated linear attention against its recurrence."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.gla import GLA
from lra.models.parts.factory import build
from lra.models.parts.recurrent import exact
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, wake
from tests.help.recurrence import compacted, masks, recurrent, remembered

HEADS = 3


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """Section 4 with heads of half the width each way, the first half of the channels along the length."""
    real = mask[..., None, None].double()
    outs = []
    for way, reverse in enumerate((False, True)):

        def part(y: Tensor, way: int = way) -> Tensor:
            return y.chunk(2, -1)[way].unflatten(-1, (HEADS, -1))

        q, k, v, gate = (part(x @ w[f"{name}.weight"].T) for name in ("query", "key", "value", "gate"))
        a = part(x @ w["forget.0.weight"].T @ w["forget.1.weight"].T + w["forget.1.bias"])
        a = -(1 + (-a).exp()).log() / 16 * real
        o = remembered(q / q.shape[-1] ** 0.5, k, v, a, mask[..., None].double().expand(-1, -1, HEADS), reverse)
        o = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["norm.weight"][way]
        outs.append((o * F.silu(gate)).flatten(2))
    return torch.cat(outs, -1) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 70])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = GLA(10, HEADS, qkv_dim=24, rank=5)
    wake(layer)
    assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


def test_a_hole_is_not_there() -> None:
    torch.manual_seed(0)
    layer, x, mask = GLA(16, 2), torch.randn(5, 90, 16), masks(90)
    for y, real, alone in zip(layer(x, mask), mask, compacted(layer, x, mask), strict=True):
        torch.testing.assert_close(y[real], alone, rtol=1e-5, atol=1e-6)


def test_turned_round() -> None:
    """With the halves of every projection exchanged, the input turned round turns the output round."""
    torch.manual_seed(0)
    layer, other, x = GLA(16, 2), GLA(16, 2), torch.randn(2, 90, 16)
    wake(layer)
    state = {n: p.clone() for n, p in layer.state_dict().items()}
    for name in ("query.weight", "key.weight", "value.weight", "gate.weight", "forget.1.weight", "forget.1.bias"):
        state[name] = torch.cat(state[name].chunk(2)[::-1])
    state["norm.weight"] = state["norm.weight"].flip(0)
    state["out.weight"] = torch.cat(state["out.weight"].chunk(2, 1)[::-1], 1)
    other.load_state_dict(state)
    mask = torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(other(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    layer = GLA(256, 4, qkv_dim=128)
    widths = {"query": (64, 256), "key": (64, 256), "value": (128, 256), "gate": (128, 256), "out": (256, 128)}
    for name, (rows, columns) in widths.items():
        weight = getattr(layer, name).weight
        assert weight.shape == (rows, columns)
        assert_xavier(weight, rows, columns)
    assert layer.forget[0].weight.shape == (16, 256) and layer.forget[0].bias is None
    decay = F.logsigmoid(layer.forget(torch.randn(500, 256))).exp() ** (1 / 16)
    assert 0.95 < decay.mean() < 0.97
    assert torch.equal(layer.norm.weight, torch.ones(2, 1, 16))
    assert not any(hasattr(p, "lra") for p in layer.parameters())


def test_gates_stay_exact_under_autocast() -> None:
    torch.manual_seed(0)
    for layer in (torch.nn.Linear(8, 3), torch.nn.Linear(8, 3, bias=False)):
        x = torch.randn(2, 5, 8)
        with torch.autocast("cpu", torch.bfloat16):
            y = exact(layer, x)
        assert y.dtype == torch.float32 and torch.equal(y, layer(x))
        narrow = exact(layer.bfloat16(), x.bfloat16())
        assert narrow.dtype == torch.float32 and not torch.equal(narrow, narrow.bfloat16().float())


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="size.heads: 3 times 4 does not divide qkv_dim 16"):
        GLA(16, 3)
    with pytest.raises(ValueError, match="size.heads: 0 times 4"):
        GLA(16, 0)
    with pytest.raises(ValueError, match="model.mixer.rank: 0 is not above 0"):
        GLA(16, 2, rank=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, GLA))
