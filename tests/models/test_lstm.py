"""The LSTM against its equations, an example and a step at a time over its real tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lra.models.lstm import LSTM
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_reverses, assert_shifts, defaults, masks
from tests.help.paper import assert_equation

DIM = 5


def steps(w: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    """x (L, D) -> (L, E): i, f, g, o side by side, c = f c + i g, h = o tanh c (Gers et al. 2000's forget gate)."""
    h = c = torch.zeros(w[f"lstm.weight_hh_{name}"].shape[1], dtype=x.dtype)
    states = []
    for row in x:
        both = w[f"lstm.weight_ih_{name}"] @ row + w[f"lstm.weight_hh_{name}"] @ h
        i, f, g, o = (both + w[f"lstm.bias_ih_{name}"] + w[f"lstm.bias_hh_{name}"]).chunk(4)
        c = c / (1 + (-f).exp()) + g.tanh() / (1 + (-i).exp())
        h = c.tanh() / (1 + (-o).exp())
        states.append(h)
    return torch.stack(states) if states else x.new_zeros(0, len(h))


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    out = []
    for row, real in zip(x, mask, strict=True):
        y = torch.zeros_like(row)
        some = row[real]
        both = torch.cat((steps(w, some, "l0"), steps(w, some.flip(0), "l0_reverse").flip(0)), -1)
        y[real] = both @ w["out.weight"].T + w["out.bias"]
        out.append(y)
    return torch.stack(out)


def test_equals_the_equations() -> None:
    for seed, length in enumerate((1, 2, 17, 40)):
        torch.manual_seed(seed)
        layer = LSTM(DIM)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, slow, x, masks(length, seed), double=1e-11, single=1e-5)
        assert_equation(layer, slow, x, torch.ones(5, length, dtype=torch.bool), double=1e-11, single=1e-5)


@pytest.mark.slow
def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(LSTM(4), 4)


def test_two_directions() -> None:
    def swap(layer: nn.Module) -> None:
        for name, parameter in list(layer.lstm.named_parameters()):
            if not name.endswith("reverse"):
                other = getattr(layer.lstm, f"{name}_reverse")
                kept = parameter.clone()
                parameter.copy_(other)
                other.copy_(kept)
        layer.out.weight.copy_(layer.out.weight.unflatten(1, (2, -1)).flip(1).flatten(1))

    torch.manual_seed(0)
    assert_reverses(LSTM(DIM), DIM, swap)


def test_a_hole_is_deleted() -> None:
    torch.manual_seed(0)
    layer = LSTM(DIM).double()
    assert_shifts(layer, DIM)
    x, mask = torch.randn(1, 30, DIM, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 10:15] = False
    deleted = layer(x[mask][None], torch.ones(1, 25, dtype=torch.bool))[0]
    torch.testing.assert_close(layer(x, mask)[mask], deleted, rtol=0, atol=1e-12)


def test_each_direction_is_as_wide_as_the_stack() -> None:
    for dim in (6, 5, 1):
        layer = LSTM(dim)
        assert layer.lstm.hidden_size == dim and layer.out.weight.shape == (dim, 2 * dim)
    assert defaults(LSTM) == {}


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: LSTM(dim))


def test_what_is_counted_is_what_torchs_own_takes() -> None:
    """On the meta device, where one product stands for one a position."""

    def count(made: Callable[[], Tensor]) -> int:
        with FlopCounterMode(display=False) as counter:
            made().sum().backward()
        return counter.get_total_flops()

    x = torch.ones(3, 7, DIM, device="meta", requires_grad=True)
    mixer, real = LSTM(DIM).to("meta"), torch.ones(3, 7, dtype=torch.bool, device="meta")
    assert count(lambda: mixer(x, real)) == count(lambda: mixer.out(mixer.lstm(x)[0]))
