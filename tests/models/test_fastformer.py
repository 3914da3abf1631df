"""Fastformer against its equations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.fastformer import Fastformer
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_twin
from tests.help.paper import split, wake


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 3) -> Tensor:
    q, k = (split(x @ w[f"{n}.weight"].T, heads) for n in ("query", "key"))
    out = torch.zeros_like(q)
    for b, real in enumerate(mask):
        for h in range(heads if real.any() else 0):
            qs, ks = q[b, h, real], k[b, h, real]
            g = (qs @ w["query_weight"][h] / qs.shape[1] ** 0.5).softmax(0) @ qs
            p = ks * g
            out[b, h] = q[b, h] * ((p @ w["key_weight"][h] / qs.shape[1] ** 0.5).softmax(0) @ p)
    u, q = (t.transpose(1, 2).flatten(2) for t in (out, q))
    return (u @ w["mix.weight"].T + w["mix.bias"] + q) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 50])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    assert_twin(Fastformer(15, 3, qkv_dim=12), equation, 15, length)


def test_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    layer = Fastformer(8, 2)
    wake(layer, by=0.3)  # or the scores would be next to nothing, and so would their gradients
    assert_long(layer, 8)


def test_it_starts_as_its_authors_have_it() -> None:
    torch.manual_seed(0)
    layer = Fastformer(256, 2)
    assert 0.018 < layer.query_weight.std() < 0.022 and 0.018 < layer.key_weight.std() < 0.022
    with pytest.raises(ValueError, match="size.heads: 3 does not divide qkv_dim 16"):
        Fastformer(16, 3)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, Fastformer))
