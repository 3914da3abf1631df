"""TTSR's hard and soft attention against its equations, and the floors and PSNR of the exam that asks for it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lra.models.hard_match import HardMatch, nearest
from lra.models.parts.factory import build
from lra.settings import build as built
from lra.tasks.base import NOT_ASKED
from tests.help import composed
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 3, patch: int = 3) -> Tensor:
    """A position at a time."""
    q, k, v, own = (x @ w[f"{n}.weight"].T for n in ("query", "key", "value", "own"))
    q, k, v, own = (t.unflatten(-1, (heads, -1)) for t in (q, k, v, own))
    length, rows = x.shape[1], []

    def near(t: Tensor, b: int, i: int, h: int) -> Tensor:
        parts = [t[b, j, h] if 0 <= j < length else 0 * t[b, i, h] for j in range(i - patch // 2, i + patch // 2 + 1)]
        return torch.stack(parts, -1).flatten()

    for b in range(len(x)):
        real = mask[b].nonzero().flatten().tolist() or [0]
        keys = [torch.stack([near(k, b, j, h) for j in real]) for h in range(heads)]
        sizes = [c.norm(dim=-1).clamp(min=1e-12) for c in keys]
        for i in range(length):
            y = []
            for h in range(heads):
                a = near(q, b, i, h)
                r = keys[h] @ a / (a.norm().clamp(min=1e-12) * sizes[h])
                best = int(r.argmax())
                y.append(r[best] * (own[b, i, h] + v[b, real[best], h]))
            rows.append(torch.cat(y) @ w["out.weight"].T)
    return torch.stack(rows).view(len(x), length, -1)


@pytest.mark.parametrize(("length", "patch"), [(1, 3), (2, 3), (33, 3), (33, 1), (40, 5)])
def test_the_layer_equals_the_equation(length: int, patch: int) -> None:
    torch.manual_seed(length)
    layer = HardMatch(15, 3, 64, qkv_dim=12, patch=patch)
    assert_twin(layer, partial(equation, patch=patch), 15, length)


def test_tiles_change_nothing_and_the_first_of_equals_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.nn.functional.normalize(torch.randn(3, 2, 200, 8, generator=draw), dim=-1) for _ in range(2))
    k[:, :, 150] = k[:, :, 20]
    mask = torch.rand(3, 200, generator=draw) < 0.5
    mask[:, [20, 150]] = True
    r = (q @ k.mT).masked_fill(~mask[:, None, None], -2)
    expected = (r >= r.amax(-1, keepdim=True) - 1e-6).int().argmax(-1)
    assert (expected == 20).any() and not (expected == 150).any()
    assert torch.equal(nearest(q, k, mask), expected)
    monkeypatch.setattr("lra.models.parts.tiles.CPU_BLOCK", 5000)
    assert torch.equal(nearest(q, k, mask), expected)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, HardMatch), bf16=1.5)  # in few bits another position may be the most alike
    with pytest.raises(ValueError, match="model.mixer.patch: 2 is not odd and above 0"):
        HardMatch(4, 1, 8, patch=2)


def test_the_floors_of_texture_and_their_psnr() -> None:
    exam = built.task(composed.settings("task=texture", "task.sizes=[50,300]"))
    train, test = exam.split("train"), exam.split("test")
    rules = exam.rules()
    asked = test.labels != NOT_ASKED
    found = {name: rules[name](train, test) for name in ("nearest", "mean", "best_2x2", "matching_tiles")}
    for name, answers in found.items():
        assert (answers[~asked] == NOT_ASKED).all() and ((answers[asked] >= 0) & (answers[asked] < 4)).all(), name
    tokens = test.all.tokens
    for row in range(20):
        pixels, shown = tokens[row, :64].reshape(4, 4, 4) - 1, tokens[row, 64:].reshape(4, 4) - 5
        mean = math.floor(pixels.mean() + 0.5)
        best = np.zeros((4, 4), int)
        for i in (0, 2):
            for j in (0, 2):
                blocks = [t[a : a + 2, b : b + 2] for t in pixels for a in (0, 2) for b in (0, 2)]
                off = [abs((block.sum() + 2) // 4 - shown[i, j]) for block in blocks]
                best[i : i + 2, j : j + 2] = blocks[int(np.argmin(off))]
        for name, expected in (("nearest", shown), ("mean", np.full((4, 4), mean)), ("best_2x2", best)):
            assert np.array_equal(found[name][row, 64:].reshape(4, 4), expected), name
    labels = test.labels[asked]
    psnr = {name: exam.of_answers(answers[asked], labels)["psnr"] for name, answers in found.items()}
    assert psnr["matching_tiles"] > psnr["nearest"] > psnr["mean"]
    error = np.mean((found["nearest"][asked] - labels) ** 2.0)
    assert psnr["nearest"] == pytest.approx(10 * math.log10(9 / error))
    assert exam.of_answers(labels, labels) == {"psnr": None}
