"""Longformer against its pattern."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lra.models.longformer import Longformer
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, join, projected, softmax_over, some_mask


def sees(length: int, window: int, dilation: list[int], global_tokens: int) -> Tensor:
    """(H, L, L), section 3.1, but for the rows of the global tokens: half the window on each side, `step` apart."""
    i, j = torch.arange(length)[:, None], torch.arange(length)
    near = [((i - j).abs() <= window // 2 * step) & ((i - j) % step == 0) for step in dilation]
    return torch.stack(near) | (j < global_tokens)


def two_projections(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, window: int, dilation: list[int], global_tokens: int, rotary: bool
) -> Tensor:
    """Both attentions for all positions, then the rows of the global tokens from the second."""
    heads, keys = len(dilation), mask[:, None, None]
    seen = sees(x.shape[1], window, dilation, global_tokens)
    y = softmax_over(*projected(w, x, heads, rotary=rotary), seen & keys)
    if global_tokens:
        names = ("query_global", "key_global", "value_global")
        y_global = softmax_over(*projected(w, x, heads, names, rotary), keys)
        y = torch.cat((y_global[:, :, :global_tokens], y[:, :, global_tokens:]), 2)
    return join(y) @ w["out.weight"].T


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
@example(seed=4, length=400, window=300, dilation=[1, 1, 2], global_tokens=1, rotary=False)
@example(seed=5, length=330, window=520, dilation=[3, 1, 1], global_tokens=7, rotary=True)
def test_equals_its_pattern(seed, length, **options) -> None:
    torch.manual_seed(seed)
    layer = Longformer(15, 3, 120, qkv_dim=12, **options)
    part_the_projections(layer)
    slow = partial(two_projections, **options)
    assert_equation(layer, slow, torch.randn(2, length, 15), some_mask(2, length, seed))
    del options["rotary"]
    seen = sees(length, **options)
    seen[:, : options["global_tokens"]] = True
    assert torch.equal(layer.pattern(length), seen)


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
    layer = Longformer(96, 2, 64, qkv_dim=64, window=4).double()
    pairs = [(getattr(layer, name), getattr(layer, f"{name}_global")) for name in ("query", "key", "value")]
    for own, shared in pairs:
        assert torch.equal(own.weight, shared.weight) and shared.bias is None
        assert_xavier(shared.weight, 96, 64)
    x, mask = torch.randn(1, 16, 96, dtype=torch.float64), torch.ones(1, 16, dtype=torch.bool)
    w = dict(layer.named_parameters())
    full = join(softmax_over(*projected(w, x, 2), mask[:, None, None].expand(1, 2, 16, 16))) @ w["out.weight"].T
    torch.testing.assert_close(layer(x, mask)[:, 0], full[:, 0])
    layer(x, mask).square().sum().backward()
    torch.optim.SGD(layer.parameters(), 0.1).step()
    assert not any(torch.equal(own.weight, shared.weight) for own, shared in pairs)
    assert not hasattr(Longformer(8, 2, 64, global_tokens=0), "query_global")


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
