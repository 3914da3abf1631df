"""Switch feed-forward layers against a loop over the tokens."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.identity import Identity
from lra.models.parts.chance import tell
from lra.models.parts.factory import build
from lra.models.parts.switch import SwitchFeedForward
from lra.models.stack import ResidualStack
from lra.train.trainee import extra_loss
from tests.help.mixers import assert_twin, masks
from tests.help.paper import gelu, wake

DIM, INNER, EXPERTS = 10, 14, 3


def looped(w: dict[str, Tensor], x: Tensor, mask: Tensor, capacity: float | None) -> Tensor:
    out = torch.zeros_like(x)
    for b, real in enumerate(mask):
        room = math.inf if capacity is None else math.ceil(capacity * int(real.sum()) / EXPERTS)
        sent = [0] * EXPERTS
        for t in real.nonzero().flatten().tolist():
            p = (w["router.weight"] @ x[b, t]).softmax(0)
            e = int(p.argmax())
            sent[e] += 1
            if sent[e] <= room:
                hidden = gelu(w["inner"][e] @ x[b, t] + w["inner_bias"][e])
                out[b, t] = p[e] * (w["outer"][e] @ hidden + w["outer_bias"][e])
    return out


def made(capacity: float | None = None, dropout: float = 0.0) -> SwitchFeedForward:
    return SwitchFeedForward(DIM, INNER, dropout, EXPERTS, capacity)


@pytest.mark.parametrize("capacity", [None, 0.5, 1.25])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_it_equals_a_loop_over_the_tokens(length: int, capacity: float | None) -> None:
    torch.manual_seed(length)
    assert_twin(made(capacity).eval(), partial(looped, capacity=capacity), DIM, length, awake=0.5)


def test_the_extra_loss_is_that_of_each_example_by_itself() -> None:
    torch.manual_seed(0)
    layer, x, mask = made(), torch.randn(5, 40, DIM), masks(40)
    wake(layer, by=0.5)
    x.requires_grad_()
    told: list[Tensor] = []
    layer.jitter.uniform = lambda like: told.append(torch.rand(like.shape)) or told[-1]
    layer.train()(x, mask)
    loss, found = extra_loss([layer]), []
    noisy = x.detach().double() * (1 + 0.01 * (2 * told[0].double() - 1))
    for row, real in zip(noisy, mask, strict=True):
        p = (row[real] @ layer.router.weight.detach().double().T).softmax(-1)
        share = [(p.argmax(-1) == i).double().mean() * p[:, i].mean() if len(p) else 0.0 for i in range(EXPERTS)]
        found.append(0.01 * EXPERTS * float(sum(share)))
    assert float(loss.detach()) == pytest.approx(sum(found) / 5, rel=1e-5)
    loss.backward()
    assert layer.router.weight.grad.any() and layer.inner.grad is None
    assert not x.grad[~mask].any()
    layer.eval()(x, mask)
    assert extra_loss([layer]) is None


def test_even_use_costs_least() -> None:
    layer = made()
    mask = torch.ones(1, 3, dtype=torch.bool)
    even = layer.balance(torch.eye(3)[None], torch.arange(3)[None], mask)
    uneven = layer.balance(torch.eye(3)[None, [0, 0, 0]], torch.zeros(1, 3, dtype=torch.int64), mask)
    assert float(even) == pytest.approx(0.01) and float(uneven) == pytest.approx(0.03)


def test_jitter_follows_the_step_and_stays_within_a_hundredth() -> None:
    torch.manual_seed(0)
    layer, x, mask = made(), torch.randn(4, 30, DIM), torch.ones(4, 30, dtype=torch.bool)
    wake(layer, by=0.5)

    def asked(step: int, rows: list[int]) -> Tensor:
        layer.train()
        tell(layer, 0, step, torch.tensor(rows))
        return layer(x[rows], mask[rows])

    whole = asked(1, [0, 1, 2, 3])
    torch.testing.assert_close(asked(1, [2]), whole[2:3])
    other = asked(2, [0, 1, 2, 3])
    assert not torch.allclose(other, whole)
    still = layer.eval().routed(x, mask)
    moved = layer.train().routed(x, mask)
    assert 0 < (moved - still).abs().max() < 0.1


def test_dropout_falls_on_what_experts_say() -> None:
    torch.manual_seed(0)
    layer, x, mask = made(dropout=0.5), torch.randn(4, 100, DIM), torch.ones(4, 100, dtype=torch.bool)
    wake(layer)
    kept = layer.train()(x, mask) != 0
    assert 0.45 < kept.float().mean() < 0.55


def test_it_starts_as_the_paper_has_it_and_says_what_is_idle() -> None:
    torch.manual_seed(0)
    layer = SwitchFeedForward(200, 300, experts=5)
    for weight, inputs in ((layer.router.weight, 200), (layer.inner, 200), (layer.outer, 300)):
        std = (0.1 / inputs) ** 0.5  # before it is cut at two of them
        assert weight.abs().max() <= 2 * std * (1 + 1e-6) and 0.83 * std < weight.std() < 0.93 * std
    assert layer.idle_parameters == 4 * (2 * 200 * 300 + 200 + 300)
    assert SwitchFeedForward(8, 8, experts=1).idle_parameters == 0 and SwitchFeedForward(8, 8).experts == 4


def test_the_stack_has_it_by_a_word() -> None:
    torch.manual_seed(0)
    stack = ResidualStack(partial(build, Identity), 2, DIM, INNER, ffn="switch", experts=EXPERTS, capacity=1.5)
    assert [type(layer.mlp) for layer in stack.layers] == [SwitchFeedForward] * 2
    assert stack.layers[1].mlp.capacity == 1.5 and stack.layers[0].mlp.experts == EXPERTS
    x, mask = torch.randn(5, 40, DIM), masks(40)
    y = stack.eval()(x, mask)
    for row in range(4):  # no example sees another
        torch.testing.assert_close(stack(x[row : row + 1], mask[row : row + 1])[0][mask[row]], y[row][mask[row]])


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.stack.experts: 0 is not above 0"):
        SwitchFeedForward(8, 8, experts=0)
    with pytest.raises(ValueError, match="model.stack.capacity: 0 is not above 0, or null"):
        SwitchFeedForward(8, 8, capacity=0)
    with pytest.raises(ValueError, match="model.stack.ffn: 'moe' is not one of dense, switch"):
        ResidualStack(partial(build, Identity), 1, 8, 8, ffn="moe")
