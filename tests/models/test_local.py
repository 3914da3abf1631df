"""Local attention against its pattern."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.local import Local
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, patterned, some_mask


def sees(length: int, heads: int, block: int, neighbours: int) -> Tensor:
    """(H, L, L): blocks that touch, or lie no more than `neighbours` apart."""
    number = torch.tensor([i // block for i in range(length)])
    return ((number[:, None] - number).abs() <= neighbours).expand(heads, -1, -1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 90),
    block=st.sampled_from([1, 5, 16, 64]),
    neighbours=st.integers(0, 3),
    rotary=st.booleans(),
)
@example(seed=2, length=300, block=64, neighbours=1, rotary=True)
@example(seed=1, length=270, block=200, neighbours=0, rotary=False)
def test_equals_its_pattern(seed, length, block, neighbours, rotary) -> None:
    torch.manual_seed(seed)
    layer = Local(15, 3, 90, qkv_dim=12, block=block, neighbours=neighbours, rotary=rotary)
    seen = sees(length, 3, block, neighbours)
    assert torch.equal(layer.pattern(length), seen)
    assert_equation(layer, patterned(3, seen, rotary), torch.randn(2, length, 15), some_mask(2, length, seed))


def test_blocks_are_contiguous() -> None:
    """The official code groups t with t + 3, t + 6, ...: 12 tokens in blocks of 4 must not."""
    seen = Local(4, 1, 12, block=4).pattern(12)[0]
    assert torch.equal(seen, torch.block_diag(*[torch.ones(4, 4)] * 3).bool())
    leaf = torch.randn(1, 12, 4, requires_grad=True)
    Local(4, 1, 12, block=4)(leaf, torch.ones(1, 12, dtype=torch.bool))[0, 5].sum().backward()
    assert leaf.grad[0].abs().sum(-1).nonzero().flatten().tolist() == [4, 5, 6, 7]


def test_contract() -> None:
    assert_mixer(lambda **facts: Local(**facts, block=16, neighbours=1))


@pytest.mark.parametrize(("field", "value"), [("block", 0), ("neighbours", -1), ("backend", "dense")])
def test_bad_values(field, value) -> None:
    with pytest.raises(ValueError, match=rf"model\.mixer\.{field}: .*{value}"):
        Local(8, 2, 16, **{field: value})
