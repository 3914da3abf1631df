"""Linformer against explicit matrices."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.linformer import SHARINGS, Linformer
from lra.models.stack import ResidualStack
from tests.help.compare import assert_mixer, distance
from tests.help.paper import assert_equation, assert_xavier, join, projected, softmax_over, some_mask


def explicit(w: dict[str, Tensor], x: Tensor, mask: Tensor, rotary: bool) -> Tensor:
    """Wang et al. 2020, eq. 7, in the order in which it is written."""
    q, k, v = projected(w, x, 3, rotary=rotary)
    real = mask[:, None, :, None]
    k = w["mix_keys"][..., : x.shape[1]] @ (k * real)
    v = w["mix_values"][..., : x.shape[1]] @ (v * real)
    return join(softmax_over(q, k, v, torch.tensor(True))) @ w["out.weight"].T


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 50),
    rank=st.sampled_from([1, 7, 64]),
    sharing=st.sampled_from(SHARINGS),
    rotary=st.booleans(),
)
def test_equals_the_explicit_product(seed, length, rank, sharing, rotary) -> None:
    torch.manual_seed(seed)
    layer = Linformer(15, 3, 50, qkv_dim=12, rank=rank, sharing=sharing, rotary=rotary)
    x, mask = torch.randn(2, length, 15), some_mask(2, length, seed)
    assert_equation(layer, partial(explicit, rotary=rotary), x, mask)


def test_full_rank_is_softmax_attention() -> None:
    torch.manual_seed(0)
    for sharing in SHARINGS:
        layer = Linformer(16, 2, 20, rank=20, sharing=sharing)
        with torch.no_grad():
            layer.mix_keys.copy_(torch.eye(20))
            layer.mix_values.copy_(torch.eye(20))
        x = torch.randn(2, 20, 16)
        q, k, v = (layer.split(p(x)) for p in (layer.query, layer.key, layer.value))
        exact = layer.out(layer.join(F.scaled_dot_product_attention(q, k, v)))
        assert distance(layer(x, torch.ones(2, 20, dtype=torch.bool)), exact) < 1e-5


def test_what_is_shared() -> None:
    def count(sharing: str) -> int:
        """Parameters of E and F in two layers of three heads."""
        stack = ResidualStack(
            lambda layer, shared: Linformer(12, 3, 50, rank=5, sharing=sharing, shared=shared), 2, 12, 8
        )
        return sum(p.numel() for name, p in stack.named_parameters() if ".mix_" in name)

    assert [count(s) // (5 * 50) for s in SHARINGS] == [12, 4, 2, 1]


def test_mixtures_start_xavier_uniform() -> None:
    torch.manual_seed(0)
    for sharing in SHARINGS:
        layer = Linformer(16, 2, 90, rank=40, sharing=sharing)
        for mix in (layer.mix_keys, layer.mix_values):
            assert_xavier(mix, 40, 90)
        assert (layer.mix_keys is layer.mix_values) == (sharing in ("key-value", "layers"))
    assert Linformer(16, 2, 90, rank=91).mix_keys.shape == (90, 90)


def test_keeps_the_contract() -> None:
    for sharing in SHARINGS:
        assert_mixer(lambda sharing=sharing, **facts: Linformer(rank=8, sharing=sharing, **facts))
    assert_mixer(lambda **facts: Linformer(rank=8, rotary=True, **facts))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer = Linformer(16, 2, 20, rank=4, dropout=0.5)
    x, mask = torch.randn(2, 20, 16), torch.ones(2, 20, dtype=torch.bool)
    assert not torch.equal(layer(x, mask), layer(x, mask))
    layer.eval()
    assert torch.equal(layer(x, mask), layer(x, mask))


def test_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^model\.mixer\.sharing: 'all' is not one of none, "):
        Linformer(16, 2, 20, sharing="all")
    with pytest.raises(ValueError, match=r"^model\.mixer\.rank: 0 "):
        Linformer(16, 2, 20, rank=0)
    with pytest.raises(ValueError, match="length 21 is above 20"):
        Linformer(16, 2, 20)(torch.zeros(1, 21, 16), torch.ones(1, 21, dtype=torch.bool))
