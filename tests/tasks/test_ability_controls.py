"""The abilities with the controls and with every position code: what is reached without a mixer is the exact floor."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lra.models.classifier import POSITIONS
from lra.settings import build, compose
from lra.settings.schema import Settings
from lra.tasks.ability.base import Ability
from lra.tasks.base import NOT_ASKED, Batch
from tests.help.abilities import TASKS
from tests.help.few import others_slow

STEPS, BATCH = 600, 64


def drawn(task: Ability, split: str, first: int, count: int) -> Batch:
    found = task.split(split).drawn(np.arange(first, first + count))
    tokens, labels = torch.from_numpy(found.tokens), torch.from_numpy(found.labels)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), labels)


def trained(model: nn.Module, task: Ability) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step in range(STEPS):
        batch = drawn(task, "train", step * BATCH, BATCH)
        task.loss(model(batch.tokens, batch.mask), batch, 0.0).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        falling.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("control", "reach"), [("identity", 0), ("window5", 2)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smooth", {"max_len": 32}),
        ("shift", {"by": 2, "max_len": 32}),
        ("state", {"group": "s3", "max_len": 8, "asked_from": 0.0}),
    ],
)
def test_a_control_learns_the_exact_floor_and_no_more(
    name: str, options: dict[str, Any], control: str, reach: int
) -> None:
    """Within sampling error above it (items independent, their answers not), and half a point below."""
    words = [f"task.{field}={value}" for field, value in options.items()]
    settings = compose.config([f"task={name}", f"model={control}", *words, "task.sizes=[5,4000]"])
    task = build.task(settings)
    torch.manual_seed(0)
    model = trained(build.model(settings, task), task)
    test = drawn(task, "test", 0, 4000)
    with torch.no_grad():
        chosen = model(test.tokens, test.mask).argmax(-1)
    asked = test.labels != NOT_ASKED
    right = ((chosen == test.labels) & asked).double().sum(1)
    found = float(right.sum() / asked.sum())
    error = float((right - found * asked.sum(1)).square().sum().sqrt() / asked.sum())
    floor = task.floor(reach)
    assert floor - 0.005 - 4 * error < found < floor + 4 * error + 1e-9, (found, floor, error)


@cache
def small(name: str) -> tuple[Settings, Ability]:
    words = ["model=transformer", "size.dim=16", "size.qkv_dim=16", "size.mlp_dim=16", "size.depth=1"]
    settings = compose.config([f"task={name}", *words, "task.sizes=[2,2]"])
    return settings, build.task(settings)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", others_slow(TASKS, ("recall", "compress", "state")))  # one of each kind of answer
def test_every_position_code_sits_every_exam(name: str, position: str) -> None:
    """Answers where they are asked, and a gradient from them; which of equal tokens comes first moves them, unless
    no code says it."""
    settings, task = small(name)
    torch.manual_seed(0)
    model = build.model(replace(settings, model={**settings.model, "position": position}), task)
    batch = drawn(task, "train", 0, 2)
    logits = model(batch.tokens, batch.mask)
    assert logits.shape == (*batch.tokens.shape, task.num_classes)
    F.cross_entropy(logits.mT, batch.labels, ignore_index=NOT_ASKED).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    last = batch.tokens.shape[1] - 1
    turned = torch.cat((batch.tokens[:, :last].flip(1), batch.tokens[:, last:]), 1)
    moved = (model(turned, batch.mask)[:, last] - logits[:, last]).abs().max()
    blind = position == "none" and task.answers != "middle"
    assert (moved < 1e-5) == blind, float(moved)
