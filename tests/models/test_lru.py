"""The LRU against its recurrence, and the ring on which it starts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lra.models.lru import LRU
from tests.help.compare import assert_mixer
from tests.help.mixers import LENGTHS, assert_long, assert_reverses, assert_shifts, defaults, masks, tagged
from tests.help.paper import assert_equation, assert_normal

DIM = 6


def recurrence(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """h_t = lambda h_(t-1) + exp(gamma) B u_t both ways, y = Re(C h + C' h') + d u, GLU(W gelu(y) + b)."""
    u = torch.where(mask[..., None], x, 0)
    turn = torch.exp(torch.complex(-w["rates.nu"].exp(), w["rates.theta"].exp()))
    v = (u + 0j) @ torch.complex(*w["enter"].unbind(1)).T * w["rates.gamma"].exp()
    y = w["skip"] * u
    for read, order in zip(torch.view_as_complex(w["read"]), (1, -1), strict=True):
        h, places = 0, range(x.shape[1])[::order]
        states = dict.fromkeys(places)
        for t in places:
            h = turn * h + v[:, t]
            states[t] = h
        y = y + (torch.stack([states[t] for t in range(x.shape[1])], 1) @ read.T).real
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    p, q = (y @ w["out.weight"].T + w["out.bias"]).chunk(2, -1)
    return p / (1 + (-q).exp())


def test_equals_the_recurrence() -> None:
    for seed, length in enumerate(LENGTHS):
        torch.manual_seed(seed)
        layer = LRU(DIM, state=7)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, recurrence, x, masks(length, seed), double=1e-11, single=1e-5)


def test_extremes() -> None:
    """A state that is gone at once, and one that hardly fades."""
    torch.manual_seed(0)
    layer = LRU(DIM, state=7)
    with torch.no_grad():
        layer.rates.nu[0], layer.rates.nu[1] = math.log(80), math.log(1e-6)
    assert_equation(layer, recurrence, torch.randn(5, 101, DIM), masks(101), double=1e-11, single=1e-5)


def test_float32_at_16384() -> None:
    for r_min, r_max in ((0.0, 1.0), (0.999, 0.9999)):
        torch.manual_seed(0)
        assert_long(LRU(4, state=16, r_min=r_min, r_max=r_max), 4)


def test_two_directions() -> None:
    def swap(layer: nn.Module) -> None:
        layer.read.copy_(layer.read.flip(0))

    torch.manual_seed(0)
    assert_reverses(LRU(DIM), DIM, swap)


def test_a_hole_keeps_its_distance_and_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    layer = LRU(DIM, r_min=0.9).double()
    assert_shifts(layer, DIM)
    x, mask = torch.randn(1, 30, DIM, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 10:15] = False
    kept = torch.where(mask[..., None], x, 0)
    torch.testing.assert_close(layer(x, mask)[mask], layer(kept, torch.ones_like(mask))[mask], rtol=0, atol=1e-12)
    deleted = layer(x[mask][None], torch.ones(1, 25, dtype=torch.bool))[0]
    assert not torch.allclose(layer(x, mask)[mask], deleted, atol=1e-3)


def uniform(share: Tensor) -> None:
    share, grid = share.double(), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    assert share.min() >= -1e-5 and share.max() <= 1 + 1e-5
    torch.testing.assert_close(share.quantile(grid), grid, rtol=0, atol=0.04)


@pytest.mark.parametrize(("r_min", "r_max", "phase"), [(0.0, 1.0, 2 * math.pi), (0.6, 0.9, 0.3)])
def test_the_ring(r_min: float, r_max: float, phase: float) -> None:
    """Uniform by area, phases up to the largest, and states of variance 1 whatever their radius."""
    torch.manual_seed(0)
    layer = LRU(20, state=4000, r_min=r_min, r_max=r_max, max_phase=phase)
    rates = {n: p.detach().double() for n, p in layer.rates.named_parameters()}
    radius = (-rates["nu"].exp()).exp()
    uniform((radius**2 - r_min**2) / (r_max**2 - r_min**2))
    uniform(rates["theta"].exp() / phase)
    inside = radius < 1 - 1e-4
    torch.testing.assert_close(rates["gamma"].exp()[inside], (1 - radius**2).sqrt()[inside], rtol=1e-3, atol=1e-6)
    assert all(torch.isfinite(p).all() for p in rates.values())
    assert_normal(layer.enter, (0.5 / 20) ** 0.5)
    assert_normal(layer.read, 4000**-0.5)
    assert abs(float(layer.skip.detach().std()) - 1) < 0.5


def test_states_start_with_variance_one() -> None:
    torch.manual_seed(0)
    layer = LRU(32, state=200, r_min=0.5, r_max=0.98).double()
    u = torch.randn(100, 300, 32, dtype=torch.float64)
    w = {n: p.detach() for n, p in layer.named_parameters()}
    turn = torch.exp(torch.complex(-w["rates.nu"].exp(), w["rates.theta"].exp()))
    v = (u + 0j) @ torch.complex(*w["enter"].unbind(1)).T * w["rates.gamma"].exp()
    h = 0
    for t in range(300):
        h = turn * h + v[:, t]
    assert abs(float(h.abs().square().mean()) - 1) < 0.2


def test_the_skip_starts_normal() -> None:
    torch.manual_seed(0)
    assert_normal(LRU(3000, state=1).skip, 1)


def test_what_learns_slowly() -> None:
    names = ("enter", "rates.nu", "rates.theta", "rates.gamma")
    assert tagged(LRU(DIM, rate=0.2)) == {name: {"rate": 0.2, "decay": 0.0} for name in names}


def test_where_nothing_is_said() -> None:
    options = {"state": 64, "r_min": 0.0, "r_max": 1.0, "max_phase": 2 * math.pi, "rate": 0.25}
    assert defaults(LRU) == options


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: LRU(dim, r_min=0.5, r_max=0.99), bf16=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 0}, "model.mixer.state: 0 is not at least 1"),
        ({"r_min": -0.1}, "model.mixer.r_min: -0.1 is not at least 0 and below r_max 1.0"),
        ({"r_min": 0.9, "r_max": 0.9}, "model.mixer.r_min: 0.9"),
        ({"r_max": 1.1}, "below r_max 1.1, which is at most 1"),
        ({"max_phase": 0.0}, "model.mixer.max_phase: 0.0 is not above 0"),
        ({"rate": 0.0}, "model.mixer.rate: 0.0"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LRU(DIM, **options)


def test_the_smallest() -> None:
    assert LRU(1, state=1)(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).shape == (1, 1, 1)
