"""Synthesizer against its logits written out entry by entry, and its options."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models.synthesizer import KINDS, Synthesizer
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_xavier, some_mask, turned, wake

DIM, QKV, HEADS, MAX_LEN, RANK = 12, 8, 2, 20, 3


def synthesized(layer: Synthesizer, w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits (H, L, L) of one example x (L, D), by the formulas of section 3."""
    length, width = len(x), QKV // HEADS

    def feed_forward(name: str, h: int) -> Tensor:
        rows = slice(h * width, (h + 1) * width)
        hidden = (x @ w[f"{name}.hidden.weight"][rows].T + w[f"{name}.hidden.bias"][rows]).relu()
        return hidden @ w[f"{name}.weight"][h].T + w[f"{name}.bias"][h, :, 0]

    heads = []
    for h in range(HEADS):
        if layer.kind == "dense":
            logits = feed_forward("synthesize", h)[:, :length]
        elif layer.kind == "random":
            logits = w["logits"][h, :length, :length]
        elif layer.kind == "fixed_random":
            logits = layer.logits[h, :length, :length].to(x.dtype)
        elif layer.kind == "factorized_random":
            logits = w["rows"][h, :length] @ w["columns"][h, :length].T
        else:
            a, b = feed_forward("synthesize_inner", h), feed_forward("synthesize_outer", h)
            inner = next(a for a in range(1, MAX_LEN + 1) if a * a >= MAX_LEN)
            assert a.shape[1] == inner and inner * (b.shape[1] - 1) < MAX_LEN <= inner * b.shape[1]
            logits = torch.stack([a[:, j % inner] * b[:, j // inner] for j in range(length)], 1)
        heads.append(logits)
    return torch.stack(heads)


def dense(w: dict[str, Tensor], x: Tensor, mask: Tensor, layer: Synthesizer) -> Tensor:
    """One example after the other."""
    return torch.stack([one(layer, w, *row) for row in zip(x, mask, strict=True)])


def one(layer: Synthesizer, w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """x (L, D), mask (L,) -> (L, D)."""
    x = x * mask[:, None]
    logits = synthesized(layer, w, x)

    def split(name: str) -> Tensor:
        return (x @ w[f"{name}.weight"].T).view(len(x), HEADS, -1).transpose(0, 1)

    if layer.mixture is not None:
        q, k = split("query"), split("key")
        if layer.rotary:
            q, k = turned(q), turned(k)
        share = w["mixture"].exp() / w["mixture"].exp().sum()
        logits = share[0] * logits + share[1] * (q @ k.mT) / (QKV / HEADS) ** 0.5
    weights = logits.masked_fill(~mask, -1e300).softmax(-1)
    return (weights @ split("value")).transpose(0, 1).flatten(1) @ w["out.weight"].T


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, MAX_LEN), st.sampled_from(KINDS), st.booleans())
def test_equals_the_formulas(seed: int, length: int, kind: str, dot_product: bool) -> None:
    torch.manual_seed(seed)
    rotary = dot_product and seed % 3 == 0
    options = {"qkv_dim": QKV, "rotary": rotary, "kind": kind, "dot_product": dot_product, "rank": RANK}
    layer = Synthesizer(DIM, HEADS, MAX_LEN, **options)
    wake(layer, seed, 0.5)
    assert_equation(layer, partial(dense, layer=layer), torch.randn(2, length, DIM), some_mask(2, length, seed))


def test_where_it_starts() -> None:
    """Logits and their factors Xavier uniform head by head, no bias, and as much of them as of the products."""
    torch.manual_seed(0)
    sizes = {"dim": 48, "heads": 3, "max_len": 50, "qkv_dim": 36}
    made = {kind: Synthesizer(kind=kind, rank=20, **sizes) for kind in KINDS}
    assert_xavier(made["random"].logits, 50, 50)
    for factor in (made["factorized_random"].rows, made["factorized_random"].columns):
        assert_xavier(factor, 50, 20)
    factorized = made["factorized_dense"]
    for network, outputs in (
        (made["dense"].synthesize, 50),
        (factorized.synthesize_inner, 8),
        (factorized.synthesize_outer, 7),
    ):
        assert_xavier(network.hidden.weight, 48, 36)
        assert_xavier(network.weight, outputs, 12)
        assert not network.hidden.bias.any() and not network.bias.any()
    assert all(layer.mixture.tolist() == [0, 0] for layer in made.values())


def test_fixed_random_is_from_the_seed_stays_as_drawn_and_is_no_mean() -> None:
    """Section 3.2: R may be kept as it was drawn."""

    def build(seed: int) -> Synthesizer:
        torch.manual_seed(seed)
        return Synthesizer(DIM, HEADS, MAX_LEN, kind="fixed_random", dot_product=False).double()

    layer, again = build(0), build(0)
    drawn = layer.logits.clone()
    assert torch.equal(drawn, again.logits) and not torch.equal(drawn, build(1).logits)
    assert "logits" in layer.state_dict() and not any("logits" in name for name, _ in layer.named_parameters())
    assert drawn.std() == pytest.approx(1, abs=0.1) and drawn.softmax(-1).amax(-1).mean() > 3 / MAX_LEN
    x, mask = torch.randn(2, MAX_LEN, DIM, dtype=torch.float64), torch.ones(2, MAX_LEN, dtype=torch.bool)
    for _ in range(2):
        layer(x, mask).square().sum().backward()
        torch.optim.AdamW(layer.parameters(), 0.1, weight_decay=0.5).step()
    assert torch.equal(layer.logits, drawn) and not torch.equal(layer.value.weight, again.value.weight)


@pytest.mark.parametrize("dot_product", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_keeps_the_contract(kind: str, dot_product: bool) -> None:
    assert_mixer(partial(Synthesizer, kind=kind, dot_product=dot_product))


def test_without_products_tokens_do_not_choose_where_to_look() -> None:
    """Random logits: the weights are the same whatever the input (section 3.2)."""
    torch.manual_seed(0)
    layer = Synthesizer(DIM, HEADS, MAX_LEN, kind="random", dot_product=False)
    mask = torch.ones(1, MAX_LEN, dtype=torch.bool)
    x, y = torch.randn(2, 1, MAX_LEN, DIM)
    torch.testing.assert_close(layer(x, mask) + layer(y, mask), layer(x + y, mask))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "randm"}, "model.mixer.kind: 'randm' is not one of dense, random"),
        ({"rank": 0}, "model.mixer.rank: 0"),
        ({"rotary": True, "dot_product": False}, "model.position: rotary"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Synthesizer(DIM, HEADS, MAX_LEN, **options)


def test_more_positions_than_are_learned_are_refused() -> None:
    with pytest.raises(ValueError, match="length 21 is above the 20"):
        Synthesizer(DIM, HEADS, MAX_LEN)(torch.zeros(1, 21, DIM), torch.ones(1, 21, dtype=torch.bool))
