"""Sparse Transformer against its patterns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.sparse import ASSIGNMENTS, PATTERNS, Sparse
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, patterned, some_mask


def sees(
    length: int, heads: int, layer: int, *, pattern: str, assign: str, stride: int, summary: int, global_tokens: int
) -> Tensor:
    """(H, L, L) from sections 4.2, 4.3 and 5.1; of an odd number of heads the one in the middle has A1. Heads take
    their summaries in turn from the end of a block."""
    i, j = torch.arange(length)[:, None], torch.arange(length)
    near = {"merged": 0, "heads": (heads + 1) // 2, "layers": 0}[assign]
    seen = []
    for head in range(heads):
        if pattern == "strided":
            first, second = (i - j).abs() <= stride, (i - j) % stride == 0
        else:
            end = stride - summary * ((head - near) % (stride // summary))
            first = i // stride == j // stride
            second = ((j % stride >= end - summary) & (j % stride < end)).expand(length, length)
        far = {"merged": first | second, "heads": second, "layers": second if layer % 2 else first}[assign]
        seen.append(first if head < near else far)
    return torch.stack(seen) | (i < global_tokens) | (j < global_tokens)


@settings(max_examples=24, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 150),
    pattern=st.sampled_from(PATTERNS),
    assign=st.sampled_from(ASSIGNMENTS),
    stride=st.sampled_from([1, 3, 11, 64]),
    global_tokens=st.sampled_from([0, 0, 1, 5]),
)
@example(seed=5, length=300, pattern="strided", assign="merged", stride=2, global_tokens=0)
@example(seed=4, length=300, pattern="strided", assign="heads", stride=140, global_tokens=1)
@example(seed=3, length=300, pattern="fixed", assign="merged", stride=140, global_tokens=1)
@example(seed=12, length=300, pattern="fixed", assign="layers", stride=40, global_tokens=0)  # as many turns
@example(seed=19, length=290, pattern="fixed", assign="heads", stride=40, global_tokens=0)  # two turns
def test_equals_its_pattern(seed, length, stride, **options) -> None:
    torch.manual_seed(seed)
    options = {**options, "stride": stride, "summary": 1 + seed % stride}
    layer = Sparse(15, 3, 150, qkv_dim=12, layer=seed % 2, rotary=seed % 5 == 0, **options)
    seen = sees(length, 3, seed % 2, **options)
    assert torch.equal(layer.pattern(length), seen)
    slow = patterned(3, seen, rotary=seed % 5 == 0)
    assert_equation(layer, slow, torch.randn(2, length, 15), some_mask(2, length, seed))


def test_patterns_of_the_paper() -> None:
    def row(query: int, **options) -> list[list[int]]:
        return [r.nonzero().flatten().tolist() for r in Sparse(8, 2, 24, **options).pattern(24)[:, query]]

    near, column = row(10, pattern="strided", assign="heads", stride=4)
    assert near == list(range(6, 15)) and column == [2, 6, 10, 14, 18, 22]
    own, summaries = row(10, pattern="fixed", assign="heads", stride=4, summary=1)
    assert own == [8, 9, 10, 11] and summaries == [3, 7, 11, 15, 19, 23]
    first, second = row(10, pattern="fixed", assign="merged", stride=4, summary=1)
    assert first == sorted({*own, *summaries}) and second == sorted({*own, *(j - 1 for j in summaries)})
    for layer, expected in enumerate((near, column, near)):
        assert row(10, pattern="strided", assign="layers", stride=4, layer=layer) == [expected] * 2


@pytest.mark.parametrize("assign", ASSIGNMENTS)
def test_heads_look_at_distinct_summaries(assign: str) -> None:
    """Section 4.3: subblocks of c within the block of l, from its end, and from there again when they are out."""
    layer = Sparse(56, 7, 40, assign=assign, stride=10, summary=3, layer=1)
    row = layer.pattern(40)[:, 0, 20:30]  # of position 0, the block of another
    dealt = [r.nonzero().flatten().tolist() for r in row]
    summaries = [[7, 8, 9], [4, 5, 6], [1, 2, 3]]
    ahead = [[]] * 4 if assign == "heads" else []
    assert dealt == ahead + (summaries * 3)[: 7 - len(ahead)]


def test_two_steps_reach_everything() -> None:
    near, far = Sparse(8, 2, 60, pattern="strided", assign="heads", stride=8).pattern(60).float()
    assert (near @ far > 0).all()
    near, far = Sparse(8, 2, 60, pattern="fixed", assign="heads", stride=8, summary=2).pattern(60).float()
    # Through the summaries of whole blocks; the last block, cut short, has none.
    assert (far @ near > 0)[:, :56].all()


def test_contract() -> None:
    assert_mixer(lambda **facts: Sparse(**facts, stride=8, summary=2))
    assert_mixer(lambda **facts: Sparse(**facts, pattern="strided", stride=8))


@pytest.mark.parametrize(
    "options",
    [{"pattern": "dense"}, {"assign": "rows"}, {"stride": 0}, {"summary": 9, "stride": 8}, {"global_tokens": -1}],
)
def test_bad_values(options) -> None:
    with pytest.raises(ValueError, match=rf"model\.mixer\.{next(iter(options))}: "):
        Sparse(8, 2, 16, **options)
    with pytest.raises(ValueError, match="two heads"):
        Sparse(8, 1, 16, assign="heads")
