"""Luna against its equations, a stack at a time, because its second sequence goes through all layers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.luna import Luna, LunaStack
from lra.models.parts.factory import build
from tests.help.mixers import assert_twin
from tests.help.paper import assert_xavier, fed, join, normed, softmax_over, split, under

HEADS = 3


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, depth: int) -> Tensor:
    p = w["packed"].expand(len(x), -1, -1)
    everything = torch.ones(1, 1, 1, p.shape[1])
    for n in range(depth):
        own = under(w, f"layers.{n}")
        m = under(own, "mixer")
        c = split(x.masked_fill(~mask[..., None], 0) @ m["context.weight"].T, HEADS)
        packed = join(softmax_over(split(p @ m["pack_query.weight"].T, HEADS), c, c, mask[:, None, None]))
        packed = packed @ m["packed.weight"].T if "packed.weight" in m else packed
        c = split(packed @ m["packed_context.weight"].T, HEADS)
        q = split(x.masked_fill(~mask[..., None], 0) @ m["query.weight"].T, HEADS)
        x = normed(own, "norm", x + join(softmax_over(q, c, c, everything)) @ m["out.weight"].T)
        if n < depth - 1:
            p = normed(own, "packed_norm", p + packed)
        x = normed(own, "mlp_norm", x + fed(own, "mlp", x))
    return x


def stack(depth: int, dim: int = 12, qkv_dim: int = 12, **options: object) -> LunaStack:
    mixer = partial(build, Luna, dim=dim, heads=HEADS, qkv_dim=qkv_dim)
    return LunaStack(mixer, depth, dim, 10, packed=4, **options)


@pytest.mark.parametrize("qkv_dim", [12, 6])
@pytest.mark.parametrize("length", [1, 40])
def test_the_stack_equals_the_equations(length: int, qkv_dim: int) -> None:
    torch.manual_seed(length)
    assert_twin(stack(2, qkv_dim=qkv_dim), partial(equation, depth=2), 12, length)


def test_what_is_packed_reaches_the_next_layer() -> None:
    """With nothing unpacked in the first layer, its input still reaches the second one's through P alone."""
    torch.manual_seed(0)
    layers, x, mask = stack(2).eval(), torch.randn(1, 20, 12), torch.ones(1, 20, dtype=torch.bool)
    seen = []
    layers.layers[1].mixer.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    layers(x, mask)
    layers(x.roll(1, 2), mask)
    assert (seen[0] - seen[1]).abs().max() > 1e-2
    assert layers.layers[1].packed_norm is None


@pytest.mark.parametrize(("checkpoint", "training", "times"), [(True, True, 2), (True, False, 1), (False, True, 1)])
def test_layers_are_computed_again_when_asked_and_trained(checkpoint: bool, training: bool, times: int) -> None:
    torch.manual_seed(0)
    layers, asked = stack(2, checkpoint=checkpoint).train(training), []
    layers.layers[0].mixer.register_forward_hook(lambda *_: asked.append(1) and None)
    layers(torch.randn(2, 9, 12, requires_grad=True), torch.ones(2, 9, dtype=torch.bool)).sum().backward()
    assert len(asked) == times


def test_it_starts_as_its_authors_have_it() -> None:
    torch.manual_seed(0)
    layers = LunaStack(partial(build, Luna, dim=64, heads=2), 1, 64, 10)
    assert layers.packed.shape == (16, 64) and 0.95 < layers.packed.std() * 8 < 1.05
    assert_xavier(layers.layers[0].mixer.context.weight, 64, 64)


def test_bad_sizes_are_told() -> None:
    assert Luna(12, 1).heads == 1
    with pytest.raises(ValueError, match="size.heads: 5 does not divide qkv_dim 12"):
        Luna(12, 5)
    with pytest.raises(ValueError, match="model.stack.packed: 0 is not above 0"):
        LunaStack(partial(build, Luna, dim=12, heads=3), 1, 12, 10, packed=0)
