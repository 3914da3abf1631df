"""The measurement against programs whose answer is known."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from lra.machine.flops import counter
from lra.machine.pace import Pace
from lra.measure import gauges
from lra.measure.alone import measure
from lra.measure.cost import Limits, Timing, rates
from lra.measure.gauges import flops, optimizer_tensors, resident_bytes, step_peak_bytes, timed
from lra.measure.selftest import resident_against_counted
from lra.settings import build
from lra.settings.typed import plain
from lra.tasks.base import Batch
from tests.help import tiny
from tests.help.composed import settings
from tests.help.few import FEW, others_slow, sequence_models

MIB = 2**20


def test_bytes_to_the_byte() -> None:
    def program() -> None:
        kept = [torch.empty(MIB, dtype=torch.uint8) for _ in range(6)]
        del kept[:]
        torch.empty(2 * MIB, dtype=torch.uint8)

    assert {step_peak_bytes(program) for _ in range(3)} == {6 * MIB}


def test_what_was_there_before_is_not_counted() -> None:
    before = torch.ones(4 * MIB, dtype=torch.uint8)
    assert step_peak_bytes(lambda: before.clone()) == 4 * MIB


def test_a_dense_step_is_told_from_a_blocked_one() -> None:
    x = torch.randn(2048, 16, requires_grad=True)

    def dense() -> None:
        ((x @ x.T).softmax(-1) @ x).sum().backward()
        x.grad = None

    def blocked() -> None:
        blocks = x.view(-1, 64, 16)
        ((blocks @ blocks.transpose(1, 2)).softmax(-1) @ blocks).sum().backward()
        x.grad = None

    assert step_peak_bytes(dense) > 10 * step_peak_bytes(blocked)


STEP = """
import ctypes, gc, torch
from lra.machine.device import seed_everything
from lra.machine.pace import Pace
from lra.machine.alone import Alone
from lra.measure.gauges import step_peak_bytes
from lra.settings import build, compose
from lra.train.batches import dealt
from lra.train.step import step as one
from lra.train.trainee import Trainee
settings = compose.config(["task=text", "budget=quick", "model=NAME", "task.max_len=2048"])
exam = build.task(settings)
seed_everything(0)
net = build.model(settings, exam).train()
parts = dealt(exam.synthetic(12))
trainee = Trainee(net, exam, settings.train, Alone(torch.device("cpu"), "float32"))
def step():
    one(trainee, parts)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer", "linear", "performer", "reformer", "longformer", "bigbird"])
def test_agrees_with_a_tuned_reading_of_resident_memory(name: str) -> None:
    """stack: RSS is exact only with large blocks mapped one by one and given back at once."""
    resident, counted = resident_against_counted(STEP.replace("NAME", name))
    assert resident == pytest.approx(counted, rel=0.01)


def test_resident_counts_shared_storage_once() -> None:
    x = torch.zeros(1000)
    assert resident_bytes([x, x[:10], x.view(10, 100), torch.zeros(5)]) == 4020


def on_meta(*shape: int) -> Batch:
    return Batch(*(torch.ones(shape, dtype=t, device="meta") for t in (torch.long, torch.bool, torch.long)))


@pytest.mark.parametrize("model", others_slow(sequence_models(), {*FEW, "isab", "luna"}))
def test_every_model_is_counted(model: str) -> None:
    """A view of a parameter is what isab and luna hand on; Reformer differentiates inside its backward pass."""
    cfg = settings(f"model={model}", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "size.attention_dropout=0.1")
    exam = build.task(cfg)
    found = flops(build.model(cfg, exam), exam.synthetic(2, torch.device("meta")))
    assert (found["train_flops"] is None) == (model == "reformer"), found
    assert model == "reformer" or found["train_flops"] > found["inference_flops"] > 0


def test_flops_of_known_products() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(9, 8), nn.Linear(8, 3)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = self.table(tokens)[:, None]
            return self.out(nn.functional.scaled_dot_product_attention(x, x, x)[:, 0].mean(1))

    result = flops(Net(), on_meta(2, 32))
    attention, head = 2 * 2 * (2 * 32 * 32 * 8), 2 * (2 * 8 * 3)
    assert result["inference_flops"] == attention + head
    assert result["train_flops"] == 3 * (attention + head)


def test_no_product_counts_as_nothing() -> None:
    """Those that are added in place have no formula in torch's own counter."""
    sizes = ((3, 4, 6), (3, 4, 5), (3, 5, 6), (3, 4, 4), (3, 4, 5))
    total, a, b, system, right = (torch.zeros(s, device="meta") for s in sizes)
    one = 2 * 4 * 5 * 6
    for product, flops_of in (
        (lambda: a @ b, 3 * one),
        (lambda: torch.baddbmm(total, a, b), 3 * one),
        (lambda: total.baddbmm_(a, b), 3 * one),
        (lambda: torch.baddbmm(total, a, b, out=total), 3 * one),
        (lambda: total[0].addmm_(a[0], b[0]), one),
        (lambda: torch.mm(a[0], b[0], out=total[0]), one),
        (lambda: torch.linalg.solve_triangular(system, right, upper=False), 3 * 4 * 4 * 5),
    ):
        with counter() as counted:
            product()
        assert counted.get_total_flops() == flops_of


def test_what_cannot_be_counted_is_null_with_a_reason() -> None:
    class Peeks(nn.Module):
        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.zeros(2, 2) if mask.sum().item() else torch.ones(2, 2)

    result = flops(Peeks(), on_meta(2, 4))
    assert result["train_flops"] is None and "meta device" in result["flops_reason"]


def test_rates_follow_from_the_median() -> None:
    result = rates([Timing(w, w / 2, 3e9) for w in (1.0, 2.0, 4.0)], examples=8, tokens=80)
    assert (result.examples_per_second, result.tokens_per_second) == (4.0, 40.0)
    assert (result.seconds_min, result.seconds_iqr, result.steps) == (1.0, 1.5, 3)


def test_the_pace_is_taken_after_each_step() -> None:
    """Its rate is that of the product it names, and it goes on for a share of the step."""
    pace, limits = Pace(), Limits(3, 10)
    begin = time.perf_counter()
    times = timed(lambda: time.sleep(0.4), limits, torch.device("cpu"), pace)
    assert time.perf_counter() - begin >= 3 * 0.4 * (1 + Pace.SHARE)
    assert all(1e8 < t.pace < 1e13 for t in times)
    assert len(rates(times, 1, 1).paces) == 3
    assert rates(timed(lambda: None, limits, torch.device("cpu")), 1, 1).paces is None


def test_the_clock_knows_a_sleep() -> None:
    limits = Limits(4, 10)
    walls = [t.wall for t in timed(lambda: time.sleep(0.05), limits, torch.device("cpu"))]
    assert len(walls) == 4 and min(walls) >= 0.05


def test_few_slow_steps_are_timed_all_the_same() -> None:
    limits = Limits(30, 0.0)
    times = timed(lambda: None, limits, torch.device("cpu"))
    assert len(times) == 5 and len(rates(times, 1, 1).seconds) == 5


@pytest.mark.slow  # as turns: tests/measure/test_turns.py
@pytest.mark.usefixtures("warm")
def test_a_fresh_process_measures_a_run(tmp_path: Path) -> None:
    cost = measure(plain(tiny.config(tmp_path)))
    assert cost.status == "ok" and cost.length == 24 and cost.batch_size == 8
    assert cost.step_peak_bytes > 0 and cost.train.steps == 3 and cost.train_flops > 0
    again = measure(plain(tiny.config(tmp_path)))
    assert cost.step_peak_bytes == again.step_peak_bytes


@pytest.mark.slow  # as a record: tests/runner/test_run.py
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_out_of_memory_is_a_result(tmp_path: Path) -> None:
    cfg = tiny.config(tmp_path, "train.batch_size=8000", "task.max_len=2000", "measure.memory_limit_gib=5")
    cost = measure(plain(cfg))
    assert cost.status == "oom" and "allocate" in cost.reason


def test_a_reason_is_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = plain(tiny.config(tmp_path))
    script = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(script))
    for body, reason in (
        ("kill -9 $$", "was killed by signal 9 (Killed)"),
        ("kill -11 $$", "was killed by signal 11 (Segmentation fault)"),
        ("echo boom >&2; exit 3", "ended with exit code 3"),
    ):  # fmt: skip
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        found = measure(config)
        assert (found.status, found.reason) == ("failed", f"the measuring process {reason}")


def test_a_slow_measurement_ends(tmp_path: Path) -> None:
    cost = measure(plain(tiny.config(tmp_path)), timeout=0.2)
    assert cost.status == "timeout" and "more than" in cost.reason


def test_cpu_seconds_are_those_of_the_step() -> None:
    """A sleep takes none, work as many as its wall, however much the process had done before."""
    begin = time.process_time()
    while time.process_time() - begin < 0.3:
        sum(range(1000))
    limits = Limits(steps=3, seconds=10.0, least=3)
    cpu = torch.device("cpu")
    assert max(t.cpu for t in timed(lambda: time.sleep(0.05), limits, cpu)) < 0.04

    def work() -> None:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            sum(range(1000))

    found = timed(work, limits, cpu)
    assert all(0.1 <= t.cpu < 0.2 and t.wall >= 0.9 * t.cpu for t in found)


def test_an_optimizers_state_is_resident() -> None:
    weight = torch.nn.Parameter(torch.zeros(100))
    optimizer = torch.optim.AdamW([weight])
    assert optimizer_tensors(optimizer) == []
    weight.grad = torch.ones(100)
    optimizer.step()
    assert sorted(t.numel() for t in optimizer_tensors(optimizer)) == [1, 100, 100]


def test_a_step_may_take_longer_than_all_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 5.0, 5.5, 20.0])
    monkeypatch.setattr(gauges.time, "process_time", lambda: next(clock))
    found = timed(lambda: None, Limits(steps=2, seconds=10.0, least=2), torch.device("cpu"))
    assert [t.cpu for t in found] == [4.0, 14.5]
