"""Every example once an epoch, whatever the batches, processes and parts; the slow reference is a list."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lra.train.batches import by_length, stream


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 200), size=st.integers(1, 40), seed=st.integers(0, 9), bucket=st.booleans())
def test_each_epoch_takes_each_example_once(n: int, size: int, seed: int, bucket: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, n)
    # 50 x size examples are whole pools, and with n = a divisor of that, whole epochs.
    batches = list(islice(stream(lengths, size, seed, bucket), 50 * n))
    assert all(len(b) == size for b in batches)
    drawn = np.concatenate(batches)
    assert (np.bincount(drawn, minlength=n) == 50 * size).all()


def test_same_seed_same_batches_and_another_seed_others() -> None:
    lengths = np.arange(1, 101)
    first, again, other = (np.concatenate(list(islice(stream(lengths, 7, s, True), 60))) for s in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_bucketing_saves_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 5000)

    def padding(bucket: bool) -> float:
        batches = [lengths[b] for b in islice(stream(lengths, 32, 0, bucket), 150)]
        return 1 - sum(b.sum() for b in batches) / sum(b.max() * len(b) for b in batches)

    assert padding(True) < 0.1 < 0.3 < padding(False)


def test_evaluation_drops_nothing() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 103)
    batches = by_length(lengths, 10)
    assert sorted(np.concatenate(batches)) == list(range(103))
    assert lengths[batches[0]].min() >= lengths[batches[-1]].max()


def test_an_endless_split_is_taken_in_order_from_a_place_that_the_seed_says() -> None:
    lengths = np.broadcast_to(np.int64(9), (2**56,))
    batches = list(islice(stream(lengths, 7, 3, endless=True), 5))
    assert np.concatenate(batches).tolist() == list(range(3 * 2**32, 3 * 2**32 + 35))
    resumed = list(islice(stream(lengths, 7, 3, True, endless=True), 2, 5))
    assert all((a == b).all() for a, b in zip(resumed, batches[2:], strict=True))
    last = next(stream(lengths, 3, 2**24 * 5 + 1, endless=True))
    assert last.tolist() == [2**32, 2**32 + 1, 2**32 + 2]  # seeds beyond 2^24 share places
    around = list(islice(stream(np.broadcast_to(np.int64(9), (10,)), 4, 0, endless=True), 3))
    assert around[2].tolist() == [8, 9, 0, 1]
