"""Padding is not paid for twice: denormal numbers behind a mask made a step 15 times slower once."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from lra.machine.device import seed_everything
from lra.settings import build
from tests.help import composed
from tests.help.few import others_slow, sequence_models

MODELS = sequence_models()
BOUND = {"lstm": 8}  # torch takes packed sequences step by step


@pytest.mark.parametrize("name", others_slow(MODELS, ("transformer", "gated_deltanet")))
def test_a_masked_step_costs_what_a_full_one_does(name: str) -> None:
    """Median CPU time of training steps, interleaved; the bound is wide because machines are noisy."""
    cfg = composed.settings("task=listops", f"model={name}")
    exam = build.task(cfg)
    seed_everything(0)
    net = build.model(cfg, exam)
    tokens, labels = torch.randint(1, exam.vocab_size, (8, 100)), torch.randint(10, (8,))
    full = torch.ones_like(tokens, dtype=torch.bool)
    masks = {"full": full, "masked": torch.arange(100) < torch.randint(10, 101, (8, 1))}
    times: dict[str, list[float]] = {"full": [], "masked": []}
    for turn in range(6):
        for kind, mask in masks.items():
            begin = time.process_time()
            torch.nn.functional.cross_entropy(net(tokens, mask), labels).backward()
            if turn:
                times[kind].append(time.process_time() - begin)
    assert statistics.median(times["masked"]) < BOUND.get(name, 4) * statistics.median(times["full"])
