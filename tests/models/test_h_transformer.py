"""H-Transformer-1D against the whole matrix of its weights, each entry from the level that it belongs to."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.h_transformer import HTransformer
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_twin
from tests.help.paper import join, projected, softmax_over


def level(i: int, j: int, block: int) -> int:
    """The least level at which i and j lie in one block of 2 b 2^level tokens."""
    found = 0
    while i // (2 * block << found) != j // (2 * block << found):
        found += 1
    return found


def mean(t: Tensor, real: Tensor, place: int, up: int) -> Tensor:
    """Of the real tokens (L, E) that stand for `place` at level `up`."""
    at = slice(place >> up << up, (place >> up) + 1 << up)
    here = t[at][real[at]]
    return here.mean(0) if len(here) else t.new_zeros(t.shape[1])


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, block: int, heads: int = 2) -> Tensor:
    q, k, v = projected(w, x, heads)
    out = torch.zeros_like(v)
    for b, real in enumerate(mask):
        tokens = real.nonzero().flatten().tolist()
        for h in range(heads):
            for i in tokens:
                weights = []
                for j in tokens:
                    up = level(i, j, block)
                    score = mean(q[b, h], real, i, up) @ mean(k[b, h], real, j, up)
                    weights.append((score / q.shape[-1] ** 0.5).exp())
                weights = torch.stack(weights)
                out[b, h, i] = weights / weights.sum() @ v[b, h, tokens]
    return join(out) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 4, 5, 19])
def test_the_layer_equals_the_equation(length: int) -> None:
    """Levels 0 to 3 with blocks of 2 x 2."""
    torch.manual_seed(length)
    assert_twin(HTransformer(6, 2, 19, block=2), partial(equation, block=2), 6, length)


def test_levels_are_joined_whatever_their_scores() -> None:
    torch.manual_seed(0)
    layer = HTransformer(6, 2, 19, block=2)
    with torch.no_grad():
        layer.query.weight.mul_(30)
    assert_twin(layer, partial(equation, block=2), 6, 19, single=1e-4)


def test_padding_is_no_score_to_be_relative_to() -> None:
    """Of scores that are all -200, the largest is -200, and not the 0 of a key that is not there."""
    layer = HTransformer(4, 1, 19, block=2)
    with torch.no_grad():
        for name, by in (("query", -100.0), ("key", 1.0), ("value", 1.0), ("out", 1.0)):
            getattr(layer, name).weight.copy_(torch.eye(4) * by)
    y = layer(torch.ones(1, 19, 4), torch.arange(19)[None] < 11)
    torch.testing.assert_close(y[0, :11], torch.ones(11, 4))


def test_one_block_is_full_attention() -> None:
    torch.manual_seed(0)
    layer = HTransformer(6, 2, 30)
    w = {n: p.detach().double() for n, p in layer.named_parameters()}
    x, mask = torch.randn(2, 30, 6), torch.arange(30) < torch.tensor([[30], [11]])
    full = join(softmax_over(*projected(w, x.double(), 2), mask[:, None, None])) @ w["out.weight"].T
    torch.testing.assert_close(layer(x, mask)[mask].double(), full[mask], rtol=0, atol=1e-5)


def test_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(HTransformer(4, 1, 16_384), 4)


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.block: 0 is not above 0"):
        HTransformer(16, 2, 40, block=0)


def test_keeps_the_contract() -> None:
    for block in (2, 16):
        assert_mixer(partial(build, partial(HTransformer, block=block)))
