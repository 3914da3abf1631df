"""Sparse Transformer against its patterns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lra.models.sparse import ASSIGNMENTS, PATTERNS, Sparse
from tests.help.compare import assert_mixer
from tests.help.dense import assert_dense


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
    assert row(10, pattern="fixed", assign="merged", stride=4, summary=1) == [sorted({*own, *summaries})] * 2
    for layer, expected in enumerate((near, column, near)):
        assert row(10, pattern="strided", assign="layers", stride=4, layer=layer) == [expected] * 2


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
