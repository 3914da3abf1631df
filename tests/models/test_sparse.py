"""Sparse Transformer against its patterns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lra.models.sparse import ASSIGNMENTS, PATTERNS, Sparse
from tests.help.compare import assert_mixer
from tests.help.dense import assert_dense, projected, softmax_over


@settings(max_examples=24, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 150),
    pattern=st.sampled_from(PATTERNS),
    assign=st.sampled_from(ASSIGNMENTS),
    stride=st.sampled_from([1, 3, 11, 64]),
    global_tokens=st.sampled_from([0, 0, 1, 5]),
)
def test_equals_its_pattern(seed, length, stride, **options) -> None:
    torch.manual_seed(seed)
    summary = 1 + seed % stride
    layer = Sparse(12, 3, 150, stride=stride, summary=summary, layer=seed % 2, rotary=seed % 5 == 0, **options)
    assert_dense(layer, length, seed)


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


@pytest.mark.parametrize("length", [1, 9, 40, 130, 300])
@pytest.mark.parametrize("assign", ASSIGNMENTS)
def test_distinct_summaries_in_float64(assign: str, length: int) -> None:
    """Outputs and gradients, with more heads than subblocks, past a tile and with a last block cut short."""
    torch.manual_seed(length)
    layer = Sparse(16, 4, 300, assign=assign, stride=40, summary=13, layer=1).double()
    mask = torch.rand(2, length) < 0.8
    mask[:, 0] = True
    x = torch.randn(2, length, 16, dtype=torch.float64, requires_grad=True)
    seen = torch.zeros(4, length, length, dtype=torch.bool)
    for head in range(4):
        far = head - 2 if assign == "heads" else head
        for i in range(length):
            for j in range(length):
                own = i // 40 == j // 40 and (assign == "merged" or (assign == "heads" and head < 2))
                end = 40 - 13 * (far % 3)
                summary = far >= 0 and end - 13 <= j % 40 < end
                seen[head, i, j] = own or summary
    slow = layer.out(layer.join(softmax_over(*projected(x, layer), seen & mask[:, None, None])))
    back = torch.randn_like(x)[mask]
    parameters = [x, *layer.parameters()]
    results = [torch.autograd.grad(y[mask], parameters, back) for y in (layer(x, mask), slow)]
    torch.testing.assert_close(layer(x, mask)[mask], slow[mask])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


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
