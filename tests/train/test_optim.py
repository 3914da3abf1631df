"""The schedules against the figures of the official configs (spec 4.5, 5.1)."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from lra.train.optim import learning_rate, optimizer, set_learning_rate


def train(**values: object) -> SimpleNamespace:
    return SimpleNamespace(**{"learning_rate": 0.05, "warmup_steps": 1000, "steps": 5000, "schedule": "rsqrt"} | values)


@pytest.mark.parametrize(("warmup", "peak"), [(1000, 1.58e-3), (8000, 5.59e-4)])
def test_rsqrt_peaks(warmup: int, peak: float) -> None:
    cfg = train(warmup_steps=warmup)
    assert learning_rate(0, cfg) == 0
    assert learning_rate(warmup, cfg) == pytest.approx(peak, rel=5e-3)
    assert learning_rate(4 * warmup, cfg) == pytest.approx(learning_rate(warmup, cfg) / 2)


def test_retrieval_never_leaves_warmup() -> None:
    assert learning_rate(5000, train(warmup_steps=8000)) == pytest.approx(3.49e-4, rel=5e-3)


def test_cosine() -> None:
    cfg = train(schedule="cosine", learning_rate=5e-4, warmup_steps=175, steps=35000)
    assert learning_rate(175, cfg) == pytest.approx(5e-4)
    assert learning_rate(175 + 17500, cfg) == pytest.approx(2.5e-4)


def test_linear_is_torch_one_cycle() -> None:
    cfg = train(schedule="linear", learning_rate=1e-4, warmup_steps=100, steps=501)
    opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        opt, 1e-4, total_steps=501, pct_start=101 / 501, anneal_strategy="linear", cycle_momentum=False
    )
    for step in range(500):
        assert learning_rate(step, cfg) == pytest.approx(opt.param_groups[0]["lr"], rel=0.02, abs=3e-7)
        opt.step()
        cycle.step()


def test_rsqrt_without_warmup_falls_from_the_second_step_on() -> None:
    cfg = train(warmup_steps=0)
    assert [learning_rate(step, cfg) for step in (0, 1, 2, 4)] == pytest.approx([0.05, 0.05, 0.05 / 2**0.5, 0.025])
    assert learning_rate(1, train(warmup_steps=1)) == 0.05


def test_the_ramps_and_ends_of_every_schedule_by_hand() -> None:
    """At a quarter of the warm-up, and where cosine and linear have come down."""
    shapes = {"rsqrt": 0.25 / 1000**0.5, "cosine": 0.25, "constant": 0.25, "linear": 0.04 + 0.96 * 0.25}
    for schedule, share in shapes.items():
        assert learning_rate(250, train(schedule=schedule)) == pytest.approx(0.05 * share), schedule
    linear = train(schedule="linear")
    assert learning_rate(3000, linear) == pytest.approx(0.05 * (1 + 1 / 250_000) / 2)
    assert learning_rate(5000, linear) == learning_rate(6000, linear) == pytest.approx(0.05 / 250_000)
    cosine = train(schedule="cosine")
    assert learning_rate(1000 + 1250, cosine) == pytest.approx(0.05 * (1 + 0.5**0.5) / 2)
    assert learning_rate(5000, train(schedule="constant")) == 0.05


@pytest.mark.parametrize("warmup", [0, 100])
def test_what_ends_at_zero(warmup: int) -> None:
    """As torch's own parts have it: a ramp from 0, then half a cosine or a line to the last step."""
    for schedule, fall in (
        ("cosine_to_zero", lambda s: (1 + math.cos(math.pi * s)) / 2),
        ("linear_to_zero", lambda s: 1 - s),
    ):
        cfg = train(schedule=schedule, learning_rate=1e-2, warmup_steps=warmup, steps=500)
        for step in (0, 25, 99, 100, 200, 300, 499, 500, 600):
            up = step / warmup if step < warmup else 1.0
            down = fall(min(1.0, max(0, step - warmup) / (500 - warmup)))
            assert learning_rate(step, cfg) == pytest.approx(1e-2 * up * down, abs=1e-12), (schedule, step)
        assert learning_rate(500, cfg) == pytest.approx(0, abs=1e-12)
    assert learning_rate(7, train(schedule="linear_to_zero", warmup_steps=7, steps=7)) == 0.05


def test_parameters_of_one_rate_and_decay_are_a_group() -> None:
    """A tag of both, of one, of none: what it does not say is the run's."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("both", "rate", "decay", "none")})
    for name, tag in {"both": {"rate": 0.5, "decay": 0.0}, "rate": {"rate": 0.5}, "decay": {"decay": 0.0}}.items():
        model[name].weight.lra = tag
    cfg = train(weight_decay=0.1, betas=(0.9, 0.98), eps=1e-9)
    opt = optimizer(model, cfg)
    found = {group["names"][0]: (group["lr"], group["weight_decay"]) for group in opt.param_groups}
    assert found == {"both.weight": (0.025, 0.0), "rate.weight": (0.025, 0.1), "decay.weight": (0.05, 0.0),
                     "none.weight": (0.05, 0.1)}  # fmt: skip
    assert all(group["betas"] == (0.9, 0.98) and group["eps"] == 1e-9 for group in opt.param_groups)
    set_learning_rate(opt, 0.01)
    assert [group["lr"] for group in opt.param_groups] == [0.005, 0.005, 0.01, 0.01]
    model["none"].weight.lra = {"speed": 1}
    with pytest.raises(ValueError, match=r"none.weight.lra: speed is not one of rate, decay"):
        optimizer(model, cfg)


def test_no_warmup_starts_at_the_top() -> None:
    assert learning_rate(0, train(schedule="constant", warmup_steps=0)) == 0.05
    assert math.isfinite(learning_rate(0, train(warmup_steps=0)))


def test_the_fused_step_is_the_plain_one() -> None:
    """What a CPU takes, against torch's tensor after tensor: the same numbers but for rounding, over some steps."""
    torch.manual_seed(0)
    cfg = train(weight_decay=0.1, betas=(0.9, 0.98), eps=1e-9, learning_rate=0.01)
    fast, slow = (torch.nn.Linear(7, 5) for _ in range(2))
    slow.load_state_dict(fast.state_dict())
    ours = optimizer(fast, cfg)
    plain = torch.optim.AdamW(slow.parameters(), lr=0.01, betas=cfg.betas, eps=cfg.eps, weight_decay=0.1, fused=False)
    assert ours.param_groups[0]["fused"]
    for _ in range(5):
        x = torch.randn(3, 7)
        for layer, opt in ((fast, ours), (slow, plain)):
            layer(x).square().sum().backward()
            opt.step()
            opt.zero_grad()
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    turned = torch.nn.ParameterList([torch.zeros(2, 3).T])
    for other in (torch.nn.Linear(2, 2, dtype=torch.complex64), turned):
        assert optimizer(other, cfg).param_groups[0]["fused"] is None
