"""Clustered attention against k-means written out, one query after the other."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.clustered import Clustered, assigned
from lra.models.parts import tiles
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import join, projected


def k_means(signs: list[list[int]], clusters: int, iterations: int) -> list[int]:
    """Lloyd's algorithm with Hamming distances and majorities."""
    centres = [signs[c * len(signs) // clusters] for c in range(clusters)]
    for turn in range(iterations + 1):
        apart = [[sum(a != b for a, b in zip(s, c, strict=True)) for c in centres] for s in signs]
        own = [row.index(min(row)) for row in apart]
        for c in range(clusters if turn < iterations else 0):
            members = [s for s, o in zip(signs, own, strict=True) if o == c]
            if members:
                centres[c] = [1 if sum(bits) >= 0 else -1 for bits in zip(*members, strict=True)]
    return own


def equation(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, planes: Tensor, clusters: int, iterations: int, rotary: bool = False
) -> Tensor:
    q, k, v = projected(w, x, len(planes), rotary=rotary)
    out = torch.zeros_like(q)
    for b, real in enumerate(mask):
        for h in range(len(planes) if real.any() else 0):
            qs, ks, vs = q[b, h, real], k[b, h, real], v[b, h, real]
            signs = torch.where(qs @ planes[h].double() >= 0, 1, -1).tolist()
            own = torch.tensor(k_means(signs, min(clusters, x.shape[1]), iterations))
            means = torch.stack([qs[own == c].mean(0) for c in own])
            out[b, h, real] = (means @ ks.mT / ks.shape[1] ** 0.5).softmax(-1) @ vs
    return join(out) @ w["out.weight"].T


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 6, 7, 45])
def test_the_layer_equals_the_equation(length: int, rotary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 queries at a time."""
    monkeypatch.setattr(tiles, "CPU_BLOCK", 1)
    torch.manual_seed(length)
    layer = Clustered(15, 3, 45, qkv_dim=12, rotary=rotary, clusters=6, bits=8, iterations=3)
    slow = partial(equation, planes=layer.planes, clusters=6, iterations=3, rotary=rotary)
    assert_twin(layer, slow, 15, length)


def test_what_is_alike_is_found_together() -> None:
    """Two kinds of signs, one in ten of them wrong, are told apart nearly always, from a first centre of each kind."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(31) % 2
    signs = torch.where(torch.rand(2, 16, generator=generator) < 0.5, 1.0, -1.0)[kind]
    signs = signs * torch.where(torch.rand(31, 16, generator=generator) < 0.1, -1.0, 1.0)
    found = assigned(signs[None], torch.ones(1, 31, dtype=torch.bool), 2, 5)[0]
    assert (found == kind).sum() > 27


def test_bad_options_are_told() -> None:
    for field in ("clusters", "bits", "iterations"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0"):
            Clustered(16, 2, 40, **{field: 0})


def test_keeps_the_contract() -> None:
    assert_mixer(
        partial(build, partial(Clustered, clusters=6)), bf16=2.0
    )  # a bit that turns moves a query to another cluster
