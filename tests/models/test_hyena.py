"""Hyena against its equations, filters lag by lag and the convolution over all pairs of positions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lra.models.hyena import Hyena
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_reverses, assert_shifts, defaults, masks, tagged
from tests.help.paper import Slow, assert_equation, assert_normal, wake

DIM, MAX_LEN, BANDS, WIDTH = 4, 24, 3, 5


def taps(w: dict[str, Tensor], lag: int, max_len: int) -> Tensor:
    """(2, D): of both directions at one lag."""
    t = lag / max(1, max_len - 1)
    bands = [1e-4 + (BANDS - 1 - 1e-4) * b / (BANDS - 1) for b in range(BANDS)]
    angles = [f * 2 * math.pi * lag / max_len for f in bands]
    h = torch.tensor([t, *(math.cos(a) for a in angles), *(-math.sin(a) for a in angles)], dtype=torch.float64)
    for n in range(3):
        h = (w["filter.frequency"] * (w[f"filter.layers.{n}.weight"] @ h + w[f"filter.layers.{n}.bias"])).sin()
    h = (w["filter.last.weight"] @ h).view(2, DIM)
    share = torch.arange(DIM, dtype=torch.float64) / (DIM - 1)
    fade = math.log(100) / 1.5 * (1 - share) + math.log(100) / 0.3 * share
    return h * (-fade * t).exp()


def slow(max_len: int) -> Slow:
    def run(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        real = mask[..., None]
        u = torch.where(real, torch.where(real, x, 0) @ w["enter.weight"].T + w["enter.bias"], 0)
        length, none = x.shape[1], torch.zeros_like(u[:, :1])
        before, after = torch.cat((none, u[:, :-1]), 1), torch.cat((u[:, 1:], none), 1)
        short = w["short.weight"][:, 0]
        u = short[:, 0] * before + short[:, 1] * u + short[:, 2] * after + w["short.bias"]
        outer, inner, value = u.chunk(3, -1)
        v = torch.where(real, inner * value, 0)
        h = torch.stack([taps(w, lag, max_len) for lag in range(min(length, max_len))])
        rows = []
        for t in range(length):
            row = w["skip"] * v[:, t]
            for s in range(length):
                if s <= t and t - s < len(h):
                    row = row + h[t - s, 0] * v[:, s]
                if s >= t and s - t < len(h):
                    row = row + h[s - t, 1] * v[:, s]
            rows.append(row)
        return (outer * torch.stack(rows, 1)) @ w["out.weight"].T + w["out.bias"]

    return run


def made(max_len: int = MAX_LEN) -> Hyena:
    layer = Hyena(DIM, max_len, BANDS, WIDTH)
    wake(layer)
    return layer


@pytest.mark.parametrize(("max_len", "lengths"), [(MAX_LEN, (1, 2, 13, MAX_LEN)), (1, (1,)), (9, (20,))])
def test_equals_the_equations(max_len: int, lengths: tuple[int, ...]) -> None:
    """The last of them: nothing is seen beyond max_len."""
    for seed, length in enumerate(lengths):
        torch.manual_seed(seed)
        x = torch.randn(5, length, DIM)
        assert_equation(made(max_len), slow(max_len), x, masks(length, seed), double=1e-11, single=1e-5)


def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(Hyena(4, 16_384, bands=2, width=8), 4)


def test_two_directions() -> None:
    def swap(layer: nn.Module) -> None:
        layer.filter.last.weight.copy_(layer.filter.last.weight.roll(DIM, 0))
        layer.short.weight.copy_(layer.short.weight.flip(-1))

    torch.manual_seed(0)
    assert_reverses(made(60), DIM, swap)


def test_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    assert_shifts(made(70), DIM)


def test_where_it_starts() -> None:
    layer = Hyena(400, 256)
    assert_normal(layer.skip, 1)
    assert layer.filter.frequency.tolist() == [1.0] * 64
    assert [tuple(n.weight.shape) for n in layer.filter.layers] == [(64, 33), (64, 64), (64, 64)]
    assert layer.filter.last.weight.shape == (800, 64) and layer.filter.last.bias is None
    names = [n for n, _ in layer.named_parameters() if n.startswith("filter.")]
    assert tagged(layer) == {name: {"decay": 0.0} for name in names} and len(names) == 8
    assert defaults(Hyena) == {"bands": 16, "width": 64}


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: Hyena(dim, max_len, BANDS, WIDTH))


@pytest.mark.parametrize("name", ["bands", "width"])
def test_bad_options_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"model.mixer.{name}: 0 is not at least 1"):
        Hyena(DIM, MAX_LEN, **{name: 0})
    Hyena(DIM, MAX_LEN, **{name: 1})
