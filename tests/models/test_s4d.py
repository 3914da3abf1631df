"""S4D against its recurrence, a step at a time in both directions, and where it starts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lra.models.parts.chance import tell
from lra.models.s4d import INITS, S4D
from tests.help.compare import assert_mixer
from tests.help.mixers import (
    LENGTHS,
    assert_long,
    assert_reverses,
    assert_shifts,
    defaults,
    masks,
    tagged,
)
from tests.help.paper import assert_equation, assert_normal

DIM = 6


def run_forth_and_back(w: dict[str, Tensor], u: Tensor) -> Tensor:
    """x_t = exp(Delta A) x_(t-1) + (exp(Delta A) - 1) / A u_t, y_t = 2 Re C x_t + d u_t; the future a step later."""
    decay, dt = w["rates.log_decay"].exp(), w["rates.log_dt"].exp()[:, None]
    a = torch.complex(-decay, w.get("rates.frequency", torch.zeros_like(decay)))
    step, enter = (dt * a).exp(), ((dt * a).exp() - 1) / a
    c = torch.complex(
        w["weight"][..., 0], w["weight"][..., 1] if w["weight"].shape[-1] == 2 else 0 * w["weight"][..., 0]
    )
    y, past, future = [], 0, 0
    for t in range(u.shape[1]):
        past = step * past + enter * u[:, t, :, None]
        y.append(2 * (c[0] * past).sum(-1).real + w["skip"] * u[:, t])
    for t in reversed(range(u.shape[1] - 1)):
        future = step * future + enter * u[:, t + 1, :, None]
        y[t] = y[t] + 2 * (c[1] * future).sum(-1).real
    return torch.stack(y, 1)


def recurrence(w: dict[str, Tensor], x: Tensor, mask: Tensor, dropped=lambda x: x) -> Tensor:
    """GLU(W gelu(y) + b) of the above."""
    y = run_forth_and_back(w, torch.where(mask[..., None], x, 0))
    y = dropped(y * 0.5 * (1 + torch.erf(y / 2**0.5)))
    p, q = (y @ w["out.weight"].T + w["out.bias"]).chunk(2, -1)
    return p / (1 + (-q).exp())


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("init", INITS)
def test_equals_the_recurrence(init: str, tie: bool) -> None:
    for seed, length in enumerate(LENGTHS):
        torch.manual_seed(seed)
        layer = S4D(DIM, init, state=8, tie=tie, dt_max=0.5)
        mask = masks(length, seed)
        assert_equation(layer, recurrence, torch.randn(5, length, DIM), mask, double=1e-10, single=1e-5)


def test_extremes() -> None:
    """Modes that are gone at once and that never go, a step of e^-12: close to the recurrence, and numbers."""
    torch.manual_seed(0)
    layer = S4D(DIM, "lin", state=8, tie=False)
    with torch.no_grad():
        layer.rates.log_dt.zero_()
        layer.rates.log_dt[0] = -12
        layer.rates.log_decay[:, 0] = torch.tensor(80.0).log()
        layer.rates.log_decay[:, 1] = torch.tensor(1e-6).log()
    assert_equation(layer, recurrence, torch.randn(5, 101, DIM), masks(101), double=1e-9, single=1e-5)


def test_float32_at_16384() -> None:
    for init in INITS:
        torch.manual_seed(0)
        assert_long(S4D(4, init, state=16), 4)


def test_two_directions() -> None:
    """The future starts one step ahead: that is what remains of the difference when the two C change places."""

    def swap(layer: nn.Module) -> None:
        back, ahead = layer.kernels(37, torch.float64)
        layer.kernels = lambda length, dtype: (
            torch.cat((ahead[:, :1] * 0, ahead[:, : length - 1]), 1) + torch.eye(1, length) * back[:, :1],
            back[:, 1:length],
        )

    torch.manual_seed(0)
    assert_reverses(S4D(DIM, state=8), DIM, swap)


def test_a_hole_keeps_its_distance_and_a_shift_moves_the_output() -> None:
    torch.manual_seed(0)
    layer = S4D(DIM, state=8).double()
    assert_shifts(layer, DIM)
    x, mask = torch.randn(1, 30, DIM, dtype=torch.float64), torch.ones(1, 30, dtype=torch.bool)
    mask[:, 10:15] = False
    kept = torch.where(mask[..., None], x, 0)
    torch.testing.assert_close(layer(x, mask)[mask], layer(kept, torch.ones_like(mask))[mask], rtol=0, atol=1e-12)
    deleted = layer(x[mask][None], torch.ones(1, 25, dtype=torch.bool))[0]
    assert not torch.allclose(layer(x, mask)[mask], deleted, atol=1e-3)


@pytest.mark.parametrize("init", INITS)
def test_where_it_starts(init: str) -> None:
    torch.manual_seed(0)
    layer = S4D(500, init, state=16)
    n = torch.arange(8, dtype=torch.float64)
    decay = {"real": n + 1}.get(init, torch.full((8,), 0.5))
    torch.testing.assert_close(layer.rates.log_decay.double().exp(), decay.double()[None], rtol=1e-6, atol=0)
    if init == "real":
        assert not hasattr(layer.rates, "frequency") and layer.weight.shape == (2, 500, 8, 1)
    else:
        size = 16 / torch.pi
        top = {"lin": 7 * torch.pi, "inv": size * 15, "legs": 80.966}[init]
        assert float(layer.rates.frequency.max()) == pytest.approx(top, rel=1e-3)
        assert layer.rates.frequency.shape == (1, 8) and layer.weight.shape == (2, 500, 8, 2)
    weight = layer.weight
    if init == "legs":
        # |B| of the authors' code (docs/authors.md), whose HiPPO vector ends in 2.17, 3.49 and 10.2 before its bound.
        size = weight.detach().square().sum(-1).mean((0, 1)).sqrt().double()
        bounded = torch.tensor([0.7050, 0.8971, 1.0754, 1.2936, 1.6113, 2, 2, 2], dtype=torch.float64)
        torch.testing.assert_close(size, bounded, rtol=0.08, atol=0)
    else:
        for part in weight.unbind(-1):
            assert_normal(part, 1 if init == "real" else 0.5**0.5)
    assert_normal(layer.skip, 1)


def test_steps_are_log_uniform() -> None:
    torch.manual_seed(0)
    for low, high in ((0.001, 0.1), (0.02, 3.0)):
        made = S4D(4000, dt_min=low, dt_max=high).rates.log_dt.detach().double()
        share = (made - torch.tensor(low).log()) / torch.tensor(high / low).log()
        assert share.min() >= -1e-6 and share.max() <= 1 + 1e-6
        quantiles = share.quantile(torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
        torch.testing.assert_close(quantiles, torch.linspace(0.1, 0.9, 9, dtype=torch.float64), rtol=0, atol=0.04)


def test_copies_of_a() -> None:
    tied, free = (S4D(DIM, state=8, tie=tie).rates for tie in (True, False))
    assert tied.log_decay.shape == tied.frequency.shape == (1, 4)
    assert free.log_decay.shape == free.frequency.shape == (DIM, 4)
    assert tied.log_dt.shape == free.log_dt.shape == (DIM,)


def test_what_learns_slowly() -> None:
    names = ("rates.log_decay", "rates.log_dt", "rates.frequency")
    assert tagged(S4D(DIM, rate=0.2)) == {name: {"rate": 0.2, "decay": 0.0} for name in names}


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        (["A"], {"log_decay": {"rate": 0.2, "decay": 0.0}, "log_dt": {"decay": 0.0}, "weight": None}),
        (["A", "dt", "C"], {"log_decay": {"rate": 0.2, "decay": 0.0}, "log_dt": {"rate": 0.2, "decay": 0.0},
                            "weight": {"rate": 0.2}}),
        ([], {"log_decay": {"decay": 0.0}, "log_dt": {"decay": 0.0}, "weight": None}),
    ],
)  # fmt: skip
def test_what_is_slow_is_a_choice(slow: list[str], expected: dict) -> None:
    found = {name.removeprefix("rates."): tag for name, tag in tagged(S4D(DIM, rate=0.2, slow=slow)).items()}
    assert found["frequency"] == found["log_decay"]
    assert {name: found.get(name) for name in expected} == expected


def test_whole_channels_are_dropped_before_the_last_map() -> None:
    torch.manual_seed(0)
    layer = S4D(DIM, state=8, inner_dropout=0.4).double().train()
    x, mask = torch.randn(5, 20, DIM, dtype=torch.float64, requires_grad=True), masks(20)
    tell(layer, 0, 0, torch.arange(5))
    w = dict(layer.named_parameters())
    ours, exact = layer(x, mask), recurrence(w, x, mask, dropped=layer.dropout)
    torch.testing.assert_close(ours, exact)
    back = torch.randn_like(x)
    for a, b in zip(*(torch.autograd.grad(y, [x, *w.values()], back) for y in (ours, exact)), strict=True):
        torch.testing.assert_close(a, b)
    ones = layer.dropout(torch.ones_like(x))
    assert not ones.all() and torch.equal(ones, ones[:, :1].expand_as(ones))


def test_where_nothing_is_said() -> None:
    options = {"init": "lin", "state": 64, "dt_min": 0.001, "dt_max": 0.1, "tie": True, "rate": 0.1}
    assert defaults(S4D) == {**options, "slow": ("A", "dt"), "inner_dropout": 0.0}


@pytest.mark.parametrize("init", INITS)
def test_keeps_the_contract(init: str) -> None:
    assert_mixer(lambda dim, heads, max_len: S4D(dim, init, state=8, dt_max=0.5), bf16=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "hippo"}, "model.mixer.init: 'hippo' is not one of lin, inv, legs, real"),
        ({"state": 7}, "model.mixer.state: 7 is not an even number of at least 2"),
        ({"state": 0}, "model.mixer.state: 0 is not"),
        ({"dt_min": 0.0}, "model.mixer.dt_min: 0.0 is not above 0 and at most dt_max 0.1"),
        ({"dt_min": 0.2}, "model.mixer.dt_min: 0.2 is not"),
        ({"rate": 0.0}, "model.mixer.rate: 0.0 is not above 0"),
        ({"slow": ["A", "B"]}, "model.mixer.slow: 'B' is not one of A, dt, C"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        S4D(DIM, **options)


def test_the_smallest() -> None:
    S4D(1, state=2, dt_min=0.1, dt_max=0.1)
    assert partial(S4D, 1, state=2)().kernels(1, torch.float32).shape == (2, 1, 1)
