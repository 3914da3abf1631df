"""minGRU and minLSTM against their equations, a step at a time over the real tokens of an example."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lra.models.minrnn import MinGRU, MinLSTM
from tests.help.compare import assert_mixer
from tests.help.mixers import LENGTHS, assert_long, assert_reverses, assert_shifts, defaults, masks
from tests.help.paper import Slow, assert_equation

DIM = 5
BOTH = pytest.mark.parametrize("cls", [MinGRU, MinLSTM])


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def steps(x: Tensor, w: list[Tensor]) -> Tensor:
    """x (L, D) -> (L, D), from the paper's forms: f and i are divided by their sum."""
    states, h = [], torch.zeros_like(w[0][:, 0])
    for row in x:
        c, *gates = (each @ row for each in w)
        g = torch.where(c >= 0, c + 0.5, sigmoid(c.clamp(max=0)))
        if len(gates) == 1:
            keep, write = sigmoid(-gates[0]), sigmoid(gates[0])
        else:
            f, i = (sigmoid(gate) for gate in gates)
            keep, write = f / (f + i), i / (f + i)
        h = keep * h + write * g
        states.append(h)
    return torch.stack(states) if states else torch.zeros_like(x)


def slow(cls: type[MinGRU]) -> Slow:
    def run(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        out = []
        for row, real in zip(x, mask, strict=True):
            some, parts = row[real], list(w["enter.weight"].split(DIM))
            assert len(parts) == {MinGRU: 2, MinLSTM: 3}[cls]
            both = torch.cat((steps(some, parts), steps(some.flip(0), parts).flip(0)), -1)
            y = torch.zeros_like(row)
            y[real] = both @ w["out.weight"].T
            out.append(y)
        return torch.stack(out)

    return run


@BOTH
def test_equals_the_equations(cls: type[MinGRU]) -> None:
    for seed, length in enumerate(LENGTHS):
        torch.manual_seed(seed)
        layer = cls(DIM)
        with torch.no_grad():
            layer.enter.weight.mul_(4)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, slow(cls), x, masks(length, seed), double=1e-11, single=1e-5)
        assert_equation(layer, slow(cls), x[:2], masks(length)[[0, 0]], double=1e-11, single=1e-5)


@BOTH
def test_gates_that_are_shut(cls: type[MinGRU]) -> None:
    """Gates of +-30: what is kept is 1 - 1e-13, or nothing."""
    torch.manual_seed(0)
    layer = cls(DIM)
    with torch.no_grad():
        layer.enter.weight[DIM:].mul_(40)
    assert_equation(layer, slow(cls), torch.randn(5, 101, DIM).sign(), masks(101), double=1e-11, single=1e-5)


@BOTH
def test_float32_at_16384(cls: type[MinGRU]) -> None:
    for scale in (1, 8):
        torch.manual_seed(0)
        layer = cls(4)
        with torch.no_grad():
            layer.enter.weight[4:].mul_(scale)
        assert_long(layer, 4)


@BOTH
def test_two_directions(cls: type[MinGRU]) -> None:
    def swap(layer: nn.Module) -> None:
        layer.out.weight.copy_(layer.out.weight.unflatten(1, (2, -1)).flip(1).flatten(1))

    torch.manual_seed(0)
    assert_reverses(cls(DIM), DIM, swap)


@BOTH
def test_a_hole_is_deleted(cls: type[MinGRU]) -> None:
    torch.manual_seed(0)
    layer = cls(DIM).double()
    assert_shifts(layer, DIM)
    x, mask = torch.randn(1, 30, DIM, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 10:15] = False
    deleted = layer(x[mask][None], torch.ones(1, 25, dtype=torch.bool))[0]
    torch.testing.assert_close(layer(x, mask)[mask], deleted, rtol=0, atol=1e-12)


@BOTH
def test_no_biases_and_nothing_to_set(cls: type[MinGRU]) -> None:
    assert [n for n, _ in cls(DIM).named_parameters()] == ["enter.weight", "out.weight"]
    assert defaults(cls) == {}


@BOTH
def test_keeps_the_contract(cls: type[MinGRU]) -> None:
    assert_mixer(lambda dim, heads, max_len: cls(dim))


@BOTH
def test_states_are_float32_under_autocast(cls: type[MinGRU]) -> None:
    """What is rounded to bfloat16 are the two projections: a state is added up from 2,000 that are not."""
    torch.manual_seed(0)
    layer, x = cls(8), torch.randn(1, 2000, 8)
    with torch.no_grad():
        layer.enter.weight[8:].sub_(1)
        layer.enter.weight.copy_(layer.enter.weight.bfloat16())
        x = x.abs().bfloat16().float()
        mask = torch.ones(1, 2000, dtype=torch.bool)
        exact = layer(x, mask)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = layer(x, mask)
    assert float((narrow - exact).norm() / exact.norm()) < 0.01
