"""S5 against its recurrence, and where it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lra.models.parts.chance import tell
from lra.models.parts.modes import legs
from lra.models.s5 import GATED, S5
from tests.help.compare import assert_mixer
from tests.help.mixers import LENGTHS, assert_long, assert_reverses, assert_shifts, defaults, masks, tagged
from tests.help.paper import assert_equation, assert_normal

DIM = 6


def recurrence(w: dict[str, Tensor], x: Tensor, mask: Tensor, gated: str = "gelu", dropped=lambda x: x) -> Tensor:
    """h_t = exp(Delta Lambda) h_(t-1) + (exp(Delta Lambda) - 1) / Lambda B u_t both ways, 2 Re(C h + C' h') + d u."""
    u = torch.where(mask[..., None], x, 0)
    pole = torch.complex(-w["rates.log_decay"].exp(), w["rates.frequency"])
    step = (w["rates.log_dt"].exp() * pole).exp()
    v = (u + 0j) @ torch.complex(*w["enter"].unbind(1)).T * (step - 1) / pole
    y = w["skip"] * u
    for read, order in zip(torch.view_as_complex(w["read"]), (1, -1), strict=True):
        h, places = 0, range(x.shape[1])[::order]
        states = dict.fromkeys(places)
        for t in places:
            h = step * h + v[:, t]
            states[t] = h
        y = y + 2 * (torch.stack([states[t] for t in range(x.shape[1])], 1) @ read.T).real
    g = dropped(y * 0.5 * (1 + torch.erf(y / 2**0.5)))
    return (g if gated == "gelu" else y) / (1 + (-(g @ w["gate.weight"].T + w["gate.bias"])).exp())


@pytest.mark.parametrize("blocks", [1, 3])
def test_equals_the_recurrence(blocks: int) -> None:
    for seed, length in enumerate(LENGTHS):
        torch.manual_seed(seed)
        layer = S5(DIM, state=12, blocks=blocks, dt_max=0.5)
        x = torch.randn(5, length, DIM)
        assert_equation(layer, recurrence, x, masks(length, seed), double=1e-11, single=1e-5)


def test_extremes() -> None:
    """Steps of a whole unit and of e^-12, a state that is gone at once and one that hardly fades."""
    torch.manual_seed(0)
    layer = S5(DIM, state=12)
    with torch.no_grad():
        layer.rates.log_dt.zero_()
        layer.rates.log_dt[3] = -12
        layer.rates.log_decay[0], layer.rates.log_decay[1] = torch.tensor([80, 1e-6]).log()
    assert_equation(layer, recurrence, torch.randn(5, 101, DIM), masks(101), double=1e-10, single=1e-5)


def test_float32_at_16384() -> None:
    for dt_min in (0.001, 0.0001):
        torch.manual_seed(0)
        assert_long(S5(4, state=16, dt_min=dt_min), 4)


def test_two_directions() -> None:
    def swap(layer: nn.Module) -> None:
        layer.read.copy_(layer.read.flip(0))

    torch.manual_seed(0)
    assert_reverses(S5(DIM, dt_max=0.5), DIM, swap)


def test_a_hole_keeps_its_distance_and_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    layer = S5(DIM).double()
    assert_shifts(layer, DIM)
    x, mask = torch.randn(1, 30, DIM, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 10:15] = False
    kept = torch.where(mask[..., None], x, 0)
    torch.testing.assert_close(layer(x, mask)[mask], layer(kept, torch.ones_like(mask))[mask], rtol=0, atol=1e-12)
    deleted = layer(x[mask][None], torch.ones(1, 25, dtype=torch.bool))[0]
    assert not torch.allclose(layer(x, mask)[mask], deleted, atol=1e-4)


@pytest.mark.parametrize("blocks", [1, 4])
def test_where_it_starts(blocks: int) -> None:
    torch.manual_seed(0)
    layer = S5(400, state=32, blocks=blocks)
    frequency, vectors = legs(16 // blocks)
    torch.testing.assert_close(layer.rates.frequency.double(), frequency.repeat(blocks), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.rates.log_decay.exp(), torch.full((16,), 0.5))
    # In the basis of the states B is real, of variance 1 / P: V B~ and its conjugate add up to it.
    modes = torch.complex(*layer.enter.detach().double().unbind(1)).unflatten(0, (blocks, -1))
    assert_normal(2 * (vectors @ modes).real, 32**-0.5)
    assert layer.enter.shape == (16, 2, 400) and layer.read.shape == (2, 400, 16, 2)
    assert_normal(layer.read, 32**-0.5)
    assert_normal(layer.skip, 1)


def test_steps_are_log_uniform() -> None:
    torch.manual_seed(0)
    grid = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for low, high in ((0.001, 0.1), (0.02, 3.0)):
        made = S5(1, state=4000, blocks=500, dt_min=low, dt_max=high).rates.log_dt.detach().double()
        share = (made - torch.tensor(low).log()) / torch.tensor(high / low).log()
        assert share.min() >= -1e-6 and share.max() <= 1 + 1e-6
        torch.testing.assert_close(share.quantile(grid), grid, rtol=0, atol=0.04)


def test_what_learns_slowly() -> None:
    names = ("enter", "rates.log_decay", "rates.frequency", "rates.log_dt")
    assert tagged(S5(DIM, rate=0.2)) == {name: {"rate": 0.2, "decay": 0.0} for name in names}


def test_what_is_slow_is_a_choice() -> None:
    slow, named = {"rate": 0.2, "decay": 0.0}, {"B": ["enter"], "dt": ["rates.log_dt"]}
    named["Lambda"] = ["rates.log_decay", "rates.frequency"]
    for chosen in (["Lambda", "dt"], ["Lambda", "B"], []):
        found = tagged(S5(DIM, rate=0.2, slow=chosen))
        assert {n for n, tag in found.items() if tag} == {n for word in chosen for n in named[word]}
        assert all(tag in ({}, slow) for tag in found.values())


@pytest.mark.parametrize("gated", GATED)
def test_what_is_gated_and_dropped(gated: str) -> None:
    """Whole channels of g, into the gate, and into what it gates where that is g."""
    torch.manual_seed(0)
    layer = S5(DIM, state=12, gated=gated, inner_dropout=0.4).double()
    x, mask = torch.randn(5, 20, DIM, dtype=torch.float64, requires_grad=True), masks(20)
    w, back = dict(layer.named_parameters()), torch.randn(5, 20, DIM, dtype=torch.float64)
    for train in (True, False):
        tell(layer.train(train), 0, 0, torch.arange(5))
        ours, exact = layer(x, mask), recurrence(w, x, mask, gated, layer.dropout)
        torch.testing.assert_close(ours, exact)
        for a, b in zip(*(torch.autograd.grad(y, [x, *w.values()], back) for y in (ours, exact)), strict=True):
            torch.testing.assert_close(a, b)
    ones = layer.train().dropout(torch.ones_like(x))
    assert not ones.all() and torch.equal(ones, ones[:, :1].expand_as(ones))


def test_where_nothing_is_said() -> None:
    options = {"state": 64, "blocks": 1, "dt_min": 0.001, "dt_max": 0.1, "rate": 0.25}
    more = {"slow": ("Lambda", "dt", "B"), "gated": "gelu", "read_std": None, "inner_dropout": 0.0}
    assert defaults(S5) == {**options, **more}
    torch.manual_seed(0)
    assert_normal(S5(400, state=32, read_std=0.7).read, 0.7)


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: S5(dim, dt_max=0.5), bf16=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 9}, "model.mixer.state: 9 is not a multiple of twice the number of blocks, 1"),
        ({"state": 12, "blocks": 4}, "model.mixer.state: 12 is not a multiple of twice the number of blocks, 4"),
        ({"state": 0}, "model.mixer.state: 0"),
        ({"blocks": 0}, "model.mixer.state: 64 is not a multiple of twice the number of blocks, 0"),
        ({"dt_min": 0.2}, "model.mixer.dt_min: 0.2 is not"),
        ({"rate": 0.0}, "model.mixer.rate: 0.0"),
        ({"slow": ["C"]}, "model.mixer.slow: 'C' is not one of Lambda, dt, B"),
        ({"gated": "relu"}, "model.mixer.gated: 'relu' is not one of gelu, linear"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        S5(DIM, **options)


def test_the_smallest() -> None:
    assert S5(1, state=2)(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).shape == (1, 1, 1)
