"""The schedules against the figures of the official configs (spec 4.5, 5.1)."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from lra.train.optim import learning_rate


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


def test_no_warmup_starts_at_the_top() -> None:
    assert learning_rate(0, train(schedule="constant", warmup_steps=0)) == 0.05
    assert math.isfinite(learning_rate(0, train(warmup_steps=0)))
