"""Longformer against its pattern."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lra.models.longformer import Longformer
from tests.help.compare import assert_mixer
from tests.help.dense import assert_dense, projected, softmax_over


def two_projections(x: Tensor, mask: Tensor, layer: Longformer) -> Tensor:
    """Both attentions for all positions, then the rows of the global tokens from the second."""
    seen = layer.pattern(x.shape[1]) & mask[:, None, None]
    y = softmax_over(*projected(x, layer), seen)
    if layer.global_tokens:
        names = ("query_global", "key_global", "value_global")
        y_global = softmax_over(*projected(x, layer, names), mask[:, None, None].expand_as(seen))
        first = torch.arange(x.shape[1])[:, None] < layer.global_tokens
        y = torch.where(first, y_global, y)
    return layer.join(y) @ layer.out.weight.to(x.dtype).T


def part_the_projections(layer: Longformer) -> None:
    """They start as copies, which would hide that one is taken for the other."""
    for name in ("query_global", "key_global", "value_global") if layer.global_tokens else ():
        nn.init.xavier_uniform_(getattr(layer, name).weight)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 120),
    window=st.sampled_from([0, 1, 8, 50, 300]),
    dilation=st.lists(st.sampled_from([1, 2, 5]), min_size=3, max_size=3),
    global_tokens=st.sampled_from([0, 1, 3, 7]),
    rotary=st.booleans(),
)
def test_equals_its_pattern(seed, length, window, dilation, global_tokens, rotary) -> None:
    torch.manual_seed(seed)
    layer = Longformer(12, 3, 120, window=window, dilation=dilation, global_tokens=global_tokens, rotary=rotary)
    part_the_projections(layer)
    assert_dense(layer, length, seed, two_projections)


def test_window_and_dilation() -> None:
    seen = Longformer(4, 2, 20, window=4, dilation=[1, 3], global_tokens=0).pattern(20)
    assert seen[0, 10].nonzero().flatten().tolist() == [8, 9, 10, 11, 12]
    assert seen[1, 10].nonzero().flatten().tolist() == [4, 7, 10, 13, 16]


def test_global_token_sees_and_is_seen() -> None:
    torch.manual_seed(0)
    layer = Longformer(8, 2, 64, window=4)
    leaf = torch.randn(1, 64, 8, requires_grad=True)
    y = layer(leaf, torch.ones(1, 64, dtype=torch.bool))
    for row in (0, 40):
        (grad,) = torch.autograd.grad(y[0, row].sum(), leaf, retain_graph=True)
        reach = grad[0].abs().sum(-1).nonzero().flatten().tolist()
        assert reach == (list(range(64)) if row == 0 else [0, 38, 39, 40, 41, 42])


def test_global_projections_start_as_copies_and_part_in_training() -> None:
    torch.manual_seed(0)
    layer = Longformer(8, 2, 16, window=4).double()
    pairs = [(getattr(layer, name), getattr(layer, f"{name}_global")) for name in ("query", "key", "value")]
    assert all(torch.equal(local.weight, glob.weight) for local, glob in pairs)
    x, mask = torch.randn(1, 16, 8, dtype=torch.float64), torch.ones(1, 16, dtype=torch.bool)
    full = softmax_over(*projected(x, layer), mask[:, None, None].expand(1, 2, 16, 16))
    torch.testing.assert_close(layer(x, mask)[:, 0], layer.out(layer.join(full))[:, 0])
    layer(x, mask).square().sum().backward()
    torch.optim.SGD(layer.parameters(), 0.1).step()
    assert not any(torch.equal(local.weight, glob.weight) for local, glob in pairs)


def test_every_parameter_has_the_right_gradient() -> None:
    """The folded projections of the global tokens, against the two written out."""
    torch.manual_seed(1)
    layer = Longformer(16, 2, 30, window=6, global_tokens=2).double()
    part_the_projections(layer)
    x, mask = torch.randn(2, 30, 16, dtype=torch.float64), torch.arange(30) < torch.tensor([[30], [17]])
    back = torch.randn(2, 30, 16, dtype=torch.float64)[mask]
    parameters = dict(layer.named_parameters())
    fast = torch.autograd.grad(layer(x, mask)[mask], parameters.values(), back)
    slow = torch.autograd.grad(two_projections(x, mask, layer)[mask], parameters.values(), back)
    for name, ours, expected in zip(parameters, fast, slow, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_width_of_each_layer() -> None:
    assert [Longformer(8, 2, 64, window=[8, 32], layer=i).half for i in (0, 1)] == [4, 16]
    with pytest.raises(ValueError, match=r"model\.mixer\.window: \[8, 32\] has no width for layer 2"):
        Longformer(8, 2, 64, window=[8, 32], layer=2)


def test_contract() -> None:
    assert_mixer(lambda **facts: Longformer(**facts, window=8, dilation=[1, 2], global_tokens=2))


@pytest.mark.parametrize(
    ("field", "value"), [("window", -2), ("dilation", [1]), ("dilation", 0), ("global_tokens", -1)]
)
def test_bad_values(field, value) -> None:
    with pytest.raises(ValueError, match=rf"model\.mixer\.{field}: "):
        Longformer(8, 2, 16, **{field: value})
