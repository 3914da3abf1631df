"""The Linear Transformer against its definition."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lra.models.parts.tiles
from lra.models.linear import LinearAttention, kernel_attention
from tests.help.compare import assert_causal, assert_mixer, assert_same, random_mask
from tests.help.mixers import assert_long
from tests.help.paper import assert_close, assert_equation, join, neighbourly, results, some_mask
from tests.help.recurrence import masks


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Katharopoulos et al. 2020, eq. 4 with eq. 7: all L x L weights."""
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT * mask[:, None, None, :]
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 70),
    heads=st.sampled_from([1, 3]),
    width=st.sampled_from([1, 4, 10]),
    block=st.sampled_from([1, 4096]),
)
def test_equals_the_dense_weights(seed, length, heads, width, block) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = LinearAttention(heads * width, heads, 70)
    qkv = [torch.randn(2, heads, length, width, generator=generator) for _ in range(3)]
    mask = random_mask(2, length, generator, scattered=seed % 2 == 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)  # 1: blocks of 16 positions
        assert_same(lambda *x: layer.attend(*x, mask), lambda *x: dense(*x, mask), qkv, mask)


def equation(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, rotary: bool = False, conv_kernel: int = 0, causal: bool = False
) -> Tensor:
    """The layer: phi(x) = x + 1 above 0 and e^x below (eq. 7), sums over the real keys (eq. 4), or those up to i."""
    q, k, v = neighbourly(w, x, mask, 3, rotary, bool(conv_kernel))
    q, k = (torch.where(t > 0, t + 1, t.clamp(max=0).exp()) for t in (q, k))
    sums = torch.einsum("bhqe,bhke,bk->bhqk", q, k, mask.double())
    sums = sums.tril() if causal else sums
    return join(sums @ v / (sums.sum(-1, keepdim=True) + 1e-6)) @ w["out.weight"].T


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_layer_equals_the_equation(rotary: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)
    for seed, length in enumerate((70, 41, 17)):
        torch.manual_seed(seed)
        layer = LinearAttention(15, 3, 70, qkv_dim=12, rotary=rotary)
        x = torch.randn(2, length, 15)
        assert_equation(layer, partial(equation, rotary=rotary), x, some_mask(2, length, seed))


OPTIONS = {
    "causal": {"causal": True},
    "convolved": {"conv_kernel": 3},
    "both": {"conv_kernel": 4, "causal": True},
    "rotary": {"conv_kernel": 3, "causal": True, "rotary": True},
}


@pytest.mark.parametrize("length", [1, 3, 65, 150])
@pytest.mark.parametrize("kind", OPTIONS)
def test_the_options_equal_their_equations(kind: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a chunk of 64 positions, a part of one chunk at a time."""
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 1)
    torch.manual_seed(length)
    layer = LinearAttention(15, 3, 150, qkv_dim=12, **OPTIONS[kind])
    assert_equation(layer, partial(equation, **OPTIONS[kind]), torch.randn(5, length, 15), masks(length))


def test_causal_sees_nothing_later() -> None:
    for options in ({}, {"conv_kernel": 4, "rotary": True}):
        torch.manual_seed(0)
        assert_causal(LinearAttention(12, 2, 150, causal=True, **options), 12)


def test_causal_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(LinearAttention(4, 1, 16_384, causal=True), 4)


@pytest.mark.parametrize("block", [1, 1 << 19])
def test_relu_features_of_a_projection(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other feature map, relu(w x) + 0.001 (Choromanski et al. 2021, section 2.2), which Performer takes."""
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)
    torch.manual_seed(0)
    w, mask = torch.randn(7, 4, dtype=torch.float64), some_mask(2, 40, 2)
    x = [torch.randn(2, 40, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ours = kernel_attention(*x, mask, "relu", w)
    q, k, v = (t.transpose(1, 2) for t in x)
    sums = ((q @ w.T).clamp(min=0) + 1e-3) @ ((k @ w.T).clamp(min=0) + 1e-3).mT * mask[:, None, None]
    exact = (sums @ v / (sums.sum(-1, keepdim=True) + 1e-6)).transpose(1, 2)
    real, wanted = mask[..., None, None], dict(zip("qkv", x, strict=True))
    assert_close(results(ours, real, wanted), results(exact, real, wanted), 1e-11)


def test_keeps_the_contract() -> None:
    for options in ({}, {"rotary": True}, *OPTIONS.values()):
        assert_mixer(partial(LinearAttention, **options))
