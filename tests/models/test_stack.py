"""The residual stack against the equations of spec 4.1: norms, GELU, residuals, every place of dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.models.reformer import ReversibleLayer
from lra.models.stack import FeedForward, Layer, ResidualStack
from tests.help.drawn import dropped
from tests.help.paper import (
    assert_close,
    assert_equation,
    assert_xavier,
    leaves,
    residual,
    results,
    seeded,
    some_mask,
    wake,
)

DIM, MLP, RATE = 12, 20, 0.3


class Mean(nn.Module):
    """The least of mixers: a map of the mean over the real tokens, and of the token itself."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.all = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        real = mask[..., None].to(x.dtype)
        return self.own(x) + self.all((x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True))


def mean(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    average = torch.stack([row[real].mean(0, keepdim=True) for row, real in zip(x, mask, strict=True)])
    return x @ w["own.weight"].T + w["own.bias"] + average @ w["all.weight"].T + w["all.bias"]


def made(depth: int = 3, **options) -> ResidualStack:
    torch.manual_seed(0)
    stack = ResidualStack(lambda layer, shared: Mean(), depth, DIM, MLP, **options)
    wake(stack)
    return stack


def drop(x: Tensor) -> Tensor:
    return dropped(x, RATE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_equations(seed: int) -> None:
    slow = partial(residual, mixer=mean, depth=3)
    assert_equation(made(), slow, torch.randn(2, 9, DIM), some_mask(2, 9, seed))
    assert_equation(made(dropout=RATE).eval(), slow, torch.randn(2, 9, DIM), some_mask(2, 9, seed))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_dropout_falls_on_the_mixer_and_twice_on_the_feed_forward_layer(checkpoint: bool) -> None:
    """With the numbers of the seed: also where the layers are computed again."""

    def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        torch.manual_seed(5)
        return residual(w, x, mask, mean, 3, drop)

    stack = seeded(made(dropout=RATE, checkpoint=checkpoint))
    assert_equation(stack, slow, torch.randn(2, 9, DIM), some_mask(2, 9, 2), single=None)


def test_the_first_dropout_is_before_the_second_map() -> None:
    """Two columns that go into one: each is there or not by itself, and then their sum."""
    torch.manual_seed(0)
    layer = FeedForward(1, 2, RATE).double()
    with torch.no_grad():
        layer.inner.weight.copy_(torch.ones(2, 1))
        layer.outer.weight.copy_(torch.tensor([[1.0, 10.0]]))
    count = 20_000
    y = layer(torch.full((count, 1), 1.0, dtype=torch.float64)).flatten()
    unit = float(F.gelu(torch.tensor(1.0, dtype=torch.float64), approximate="tanh")) / (1 - RATE) ** 2
    shares = {
        round(value): share
        for value, share in zip(*[t.tolist() for t in (y / unit).unique(return_counts=True)], strict=True)
    }
    keep = 1 - RATE
    expected = {0: RATE + keep * RATE**2, 1: keep * keep * RATE, 10: keep * keep * RATE, 11: keep**3}
    assert shares.keys() == expected.keys()
    for value, share in expected.items():
        assert abs(shares[value] / count - share) < 4 * (share * (1 - share) / count) ** 0.5, value
    assert (layer.eval()(torch.ones(5, 1, dtype=torch.float64)) * 0 + 1).eq(1).all()


class Same(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.ones_like(x)


@pytest.mark.parametrize("build", [Layer, ReversibleLayer])
def test_dropout_of_the_mixer_by_its_law(build: Callable[..., nn.Module]) -> None:
    """Before it is added to the residual, at the rate, number by number, and not in eval()."""
    torch.manual_seed(0)
    layer = build(Same(), 50, 8, RATE)
    x, mask = torch.zeros(40, 10, 50), torch.ones(40, 10, dtype=torch.bool)
    with torch.no_grad():
        layer.mlp.outer.weight.zero_()
        mixed = (lambda: layer(x, mask)) if build is Layer else (lambda: layer.mix(x, mask))
        y = mixed()
        assert set((y * (1 - RATE)).round(decimals=5).unique().tolist()) == {0.0, 1.0}
        kept = (y > 0).double()
        for axes in ((0, 1, 2), (0, 1), (0, 2), (1, 2)):
            share = kept.mean(axes)
            each = kept.numel() / share.numel()
            assert ((share - (1 - RATE)).abs() < 5 * (RATE * (1 - RATE) / each) ** 0.5).all(), axes
        assert layer.eval() is layer and torch.equal(mixed(), torch.ones_like(x))


def test_recomputed_layers_give_the_same() -> None:
    x, mask = torch.randn(2, 9, DIM), some_mask(2, 9, 2)
    found = []
    for checkpoint in (False, True):
        stack = made(dropout=RATE, checkpoint=checkpoint)
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        found.append(results(stack(leaf, mask), mask[..., None], {"x": leaf, **dict(stack.named_parameters())}))
    assert_close(*found, 1e-6)
    assert leaves(stack).keys() == dict(stack.named_parameters()).keys()


def test_starts_as_the_official_code() -> None:
    torch.manual_seed(0)
    layer = FeedForward(96, 64)
    for linear in (layer.inner, layer.outer):
        assert_xavier(linear.weight, 96, 64)
        assert not linear.bias.any()
    assert not layer.dropout.p and not layer.inner_dropout.p, "no dropout unless it is asked for"


def test_layers_know_their_number_and_what_they_share() -> None:
    seen = []

    def mixer(layer: int, shared: dict) -> nn.Module:
        seen.append((layer, len(shared)))
        shared[layer] = True
        return Same()

    ResidualStack(mixer, 3, DIM, MLP)
    assert seen == [(0, 0), (1, 1), (2, 2)]
