"""DeltaNet and Gated DeltaNet against their recurrence."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.deltanet import DeltaNet
from lra.models.parts.factory import build
from lra.settings.schema import Train
from lra.train.optim import optimizer
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, wake
from tests.help.recurrence import compacted, convolved, corrected, masks, recurrent

HEADS = 3
KINDS = {
    "plain": {},
    "gated": {"gated": True},
    "negative": {"negative_eigenvalues": True},
    "unconvolved": {"conv_kernel": None},
    "two": {"steps": 2},
    "three": {"gated": True, "negative_eigenvalues": True, "steps": 3, "conv_kernel": 3},
}


def equation(
    w: dict[str, Tensor],
    x: Tensor,
    mask: Tensor,
    gated: bool = False,
    negative_eigenvalues: bool = False,
    steps: int = 1,
    conv_kernel: int | None = 4,
) -> Tensor:
    """Positions along the length or against it, each one `steps` corrections; a decay before the first."""
    real, length = mask[..., None].double(), x.shape[1]
    outs = []
    for way, reverse in enumerate((False, True)):
        made = {}
        for name in ("query", "key", "value"):
            half = (x @ w[f"{name}.weight"].T).chunk(2, -1)[way]
            made[name] = F.silu(half)
            if conv_kernel is not None:
                made[name] = convolved(half, w[f"conv.{name}.{way}.weight"], None, reverse)
        q = made["query"].unflatten(-1, (1, HEADS, -1))
        k, v = (made[name].unflatten(-1, (steps, HEADS, -1)) for name in ("key", "value"))
        q, k = (t / (t.square().sum(-1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
        b = (x @ w["write.weight"].T).chunk(2, -1)[way].unflatten(-1, (steps, HEADS))
        b = (2 if negative_eigenvalues else 1) / (1 + (-b).exp()) * real[..., None]
        a = torch.zeros_like(b)
        if gated:
            at = slice(way * HEADS, (way + 1) * HEADS)
            dt = (1 + (x @ w["forget.project.weight"].T + w["forget.bias"])[..., at].exp()).log() * real
            first = -w["forget.log_rate"][at].exp() * dt
            a = torch.stack([first, *[torch.zeros_like(first)] * (steps - 1)], 2)
        order = list(range(length))[::-1] if reverse else list(range(length))
        flat = [t[:, order].flatten(1, 2) for t in (q.expand_as(k), k, v, a, b)]
        o = corrected(*flat)[:, steps - 1 :: steps][:, order] / q.shape[-1] ** 0.5
        o = o / (o.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["norm.weight"][way]
        outs.append(o.flatten(2))
    y = torch.cat(outs, -1)
    return (y * F.silu(x @ w["gate.weight"].T) if gated else y) @ w["out.weight"].T


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_equals_the_equation(kind: str) -> None:
    for length in (1, 2, 70):
        torch.manual_seed(length)
        layer = DeltaNet(10, HEADS, qkv_dim=24, **KINDS[kind])
        wake(layer)
        x = torch.randn(5, length, 10)
        assert_equation(layer, recurrent(partial(equation, **KINDS[kind])), x, masks(length), single=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_turned_round(kind: str) -> None:
    """With the two ways exchanged, the input turned round turns the output round."""
    torch.manual_seed(0)
    layer, other = (DeltaNet(16, 2, **KINDS[kind]) for _ in range(2))
    wake(layer)
    given = layer.state_dict()
    state = {n: torch.cat(p.chunk(2)[::-1]) for n, p in given.items() if not n.startswith("conv.")}
    state["out.weight"] = torch.cat(given["out.weight"].chunk(2, 1)[::-1], 1)
    for name in (n for n in given if n.startswith("conv.")):
        _, which, way, part = name.split(".")
        state[f"conv.{which}.{1 - int(way)}.{part}"] = given[name]
    other.load_state_dict(state)
    x, mask = torch.randn(2, 90, 16), torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(other(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-5, atol=1e-5)


def test_without_a_convolution_a_hole_is_not_there() -> None:
    torch.manual_seed(0)
    layer, x, mask = DeltaNet(16, 2, gated=True, conv_kernel=None), torch.randn(5, 90, 16), masks(90)
    for y, real, alone in zip(layer(x, mask), mask, compacted(layer, x, mask), strict=True):
        torch.testing.assert_close(y[real], alone, rtol=1e-5, atol=1e-6)


def test_it_starts_as_the_papers_have_it() -> None:
    torch.manual_seed(0)
    layer = DeltaNet(64, 400, qkv_dim=800, gated=True, steps=2)
    rows = {"query": 800, "key": 1600, "value": 1600, "write": 1600, "gate": 800}
    for name, count in rows.items():
        assert_xavier(getattr(layer, name).weight, count, 64)
    assert_xavier(layer.out.weight, 64, 800)
    rate = layer.forget.log_rate.exp()
    assert rate.min() < 0.5 and rate.max() <= 16 and abs(rate.mean() - 8) < 0.6
    assert torch.equal(layer.norm.weight, torch.ones(2, 1, 1))
    plain = DeltaNet(16, 2)
    assert plain.gate is None and plain.forget is None and plain.conv["key"][0].weight.shape == (8, 4)


def test_weight_decay_leaves_steps_alone() -> None:
    groups = optimizer(DeltaNet(16, 2, gated=True), Train(weight_decay=0.1)).param_groups
    (free,) = [group["names"] for group in groups if group["weight_decay"] == 0]
    assert sorted(free) == ["forget.bias", "forget.log_rate"] and len(groups) == 2


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="size.heads: 3 times 2 does not divide qkv_dim 16"):
        DeltaNet(16, 3)
    for steps in (0, 1.5):
        with pytest.raises(ValueError, match=f"model.mixer.steps: {steps} is not a whole number from 1"):
            DeltaNet(16, 2, steps=steps)
    with pytest.raises(ValueError, match="model.mixer.conv_kernel: 0"):
        DeltaNet(16, 2, conv_kernel=0)


@pytest.mark.parametrize("kind", ["plain", "three"])
def test_keeps_the_contract(kind: str) -> None:
    assert_mixer(partial(build, partial(DeltaNet, **KINDS[kind])))
