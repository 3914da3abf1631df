"""FAVOR+ against its definition, and what it promises."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import lra.models.parts.tiles
from lra.models.performer import Performer, orthogonal_gaussian
from tests.help.compare import assert_mixer, assert_same, distance, random_mask
from tests.help.paper import assert_equation, join, projected, some_mask


def favor(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, layer: Performer) -> Tensor:
    """Choromanski et al. 2021, Lemma 1 and eq. 4, with explicit features and no stabiliser."""
    w = layer.projection.to(q.dtype)
    if layer.kernel == "softmax":

        def phi(x: Tensor) -> Tensor:
            x = x * x.shape[-1] ** -0.25
            return (x @ w.T - x.square().sum(-1, keepdim=True) / 2).exp()
    else:

        def phi(x: Tensor) -> Tensor:
            return (x @ w.T).relu() + 1e-3

    weights = phi(q) @ phi(k).mT * mask[:, None, None, :]
    eps = 1e-6 if layer.kernel == "relu" else 0.0
    return weights @ v / (weights.sum(-1, keepdim=True) + eps)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 70),
    heads=st.sampled_from([1, 3]),
    width=st.sampled_from([4, 10]),
    features=st.sampled_from([1, 6, 32]),
    variant=st.sampled_from(["softmax", "hyperbolic", "relu"]),
    block=st.sampled_from([1, 4096]),
)
def test_equals_the_explicit_features(seed, length, heads, width, features, variant, block) -> None:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    hyperbolic = variant == "hyperbolic" and features > 1
    kernel = "relu" if variant == "relu" else "softmax"
    layer = Performer(heads * width, heads, 70, features=features, kernel=kernel, hyperbolic=hyperbolic)
    qkv = [torch.randn(2, heads, length, width, generator=generator) for _ in range(3)]
    mask = random_mask(2, length, generator, scattered=seed % 2 == 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)  # 1: blocks of 16 positions
        # All ReLU features of a key may be the shift of 1e-3: what is divided by is then as small as eps.
        bound = 1e-4 if variant == "relu" else 1e-5
        assert_same(lambda *x: layer.attend(*x, mask), lambda *x: favor(*x, mask, layer), qkv, mask, bound)


def test_scales_of_the_relu_kernel_are_no_more_than_another_shift() -> None:
    torch.manual_seed(0)
    features, width = 32, 8
    layer = Performer(2 * width, 2, 300, features=features, kernel="relu")
    q, k, v = (0.05 * torch.randn(1, 2, 300, width, dtype=torch.float64) for _ in range(3))
    w = layer.projection.double()

    def error(scale: float, shift: float, over: float) -> float:
        q2, k2 = (((x * scale) @ w.T).relu() + shift for x in (q, k))
        weights = q2 @ k2.mT / over**2
        return distance(
            layer.attend(q, k, v, torch.ones(1, 300, dtype=torch.bool)), weights @ v / weights.sum(-1, True)
        )

    ratio = features**0.5
    assert error(1, 1e-3, 1) < 1e-5 and error(1, 1e-3, ratio) < 1e-5  # with and without the factor of eq. 5
    assert error(1 / ratio, 1e-3 / ratio, 1) < 1e-5
    assert error(1 / ratio, 1e-3, 1) > 1e-3 and error(width**-0.25, 1e-3, 1) > 1e-3  # the authors' other forms


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, layer: Performer) -> Tensor:
    """The layer: Lemma 1 between its projections, the random vectors its own."""
    q, k, v = projected(w, x, layer.heads, rotary=layer.rotary)
    return join(favor(q, k, v, mask, layer)) @ w["out.weight"].T


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("options", [{}, {"rotary": True}, {"hyperbolic": True}, {"kernel": "relu"}], ids=str)
def test_the_layer_equals_the_equation(options: dict, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)
    for seed, (length, heads) in enumerate(((70, 3), (41, 1), (17, 3))):
        torch.manual_seed(seed)
        layer = Performer(5 * heads, heads, 70, qkv_dim=4 * heads, features=10, **options)
        x, mask = torch.randn(2, length, 5 * heads), some_mask(2, length, seed)
        single = 2e-4 if "kernel" in options else 2e-5  # all ReLU features of a key may be the shift of 1e-3
        assert_equation(layer, partial(equation, layer=layer), x, mask, single=single)


def test_leading_blocks_of_padding_and_far_apart_norms_stay_finite() -> None:
    torch.manual_seed(0)
    layer = Performer(16, 1, 64, features=32)
    q, k, v = (torch.randn(1, 1, 64, 16, dtype=torch.float64) for _ in range(3))
    k[:, :, 40:] *= 12  # features of such keys span hundreds of orders of magnitude
    mask = torch.arange(64)[None] >= 33
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 1)
        assert_same(lambda *x: layer.attend(*x, mask), lambda *x: favor(*x, mask, layer), (q, k, v), mask, 2e-5)


def test_more_features_approach_softmax_attention() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, 64, 16) * 0.4 for _ in range(3))
    mask = torch.ones(1, 64, dtype=torch.bool)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def error(features: int, **options) -> float:
        layers = (Performer(64, 4, 64, features=features, **options) for _ in range(8))
        return sum(distance(layer.attend(q, k, v, mask), exact) for layer in layers) / 8

    errors = [error(features) for features in (16, 64, 256, 1024, 4096)]
    assert all(later < 0.75 * former for former, later in itertools.pairwise(errors)), errors
    assert errors[-1] < errors[0] / 8, errors  # 1/sqrt(features) gives 16
    assert error(256, hyperbolic=True) < errors[2] * 1.1


def test_rows_of_a_block_are_orthogonal_with_gaussian_norms() -> None:
    w = orthogonal_gaussian(600, 16, torch.Generator().manual_seed(0)).double()
    for block in w[:592].split(16):
        unit = block / block.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-5)
    # Blocks are independent and Q is uniform (Haar): any entry of a unit row has mean 0 and variance 1/16, and so
    # has the product of two rows of different blocks; the diagonal too, which bare QR leaves of one sign.
    unit = (w / w.norm(dim=1, keepdim=True))[:592].unflatten(0, (-1, 16))
    across = (unit[0::2][:18] @ unit[1::2][:18].mT).flatten()
    assert abs(across.mean()) < 4 / (16 * across.numel()) ** 0.5 and abs(across.square().mean() * 16 - 1) < 0.1
    for entries in (unit.diagonal(dim1=1, dim2=2), unit.mT.diagonal(dim1=1, dim2=2), unit[:, 0], unit[:, -1]):
        assert abs(entries.mean()) < 4 / (16 * entries.numel()) ** 0.5
        assert abs(entries.square().mean() * 16 - 1) < 0.25
    # Norms go with the row and not with the block.
    norms = w[:592].norm(dim=1).unflatten(0, (-1, 16))
    assert norms.std(1).mean() > 0.5 and norms.std(0).mean() > 0.5
    # chi with 16 degrees of freedom: E[norm^2] = 16, with variance 32.
    assert abs(w.square().sum(1).mean() - 16) < 4 * (32 / 600) ** 0.5
    assert abs(w.square().sum(1).var() - 32) < 4 * 32 * (2.75 / 600) ** 0.5  # kurtosis 3 + 12/16
    assert w.mean(0).abs().max() < 0.2


def test_features_are_unbiased_over_draws() -> None:
    """Lemma 1: the mean over the w is exp(q k / sqrt(E)), for one query and two keys, numerator by numerator."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, dtype=torch.float64) * 0.5, torch.randn(2, 4, dtype=torch.float64) * 0.5
    for hyperbolic in (False, True):
        layers = [Performer(4, 1, 8, features=8, hyperbolic=hyperbolic) for _ in range(600)]
        w = torch.stack([layer.projection.double() for layer in layers])
        phi_q, phi_k = (((t / 4**0.25) @ w.mT - t.square().sum(-1, keepdim=True) / 4).exp() for t in (q, k))
        found = (phi_q * phi_k).mean(-1)
        error = (found.mean(0) - (q @ k.T / 2).exp()[0]).abs()
        assert (error < 4 * found.std(0) / 600**0.5).all()
        if hyperbolic:
            assert torch.equal(w[:, :4], -w[:, 4:])
    assert len({float(layer.projection[0, 0]) for layer in layers}) == 600, "every layer draws for itself"


def test_keeps_the_contract() -> None:
    for options in ({}, {"kernel": "relu"}, {"hyperbolic": True}, {"rotary": True}):
        assert_mixer(lambda options=options, **facts: Performer(features=32, **facts, **options))


def test_autocast_does_not_narrow_the_features() -> None:
    torch.manual_seed(0)
    layer = Performer(32, 2, 48)
    x, mask = torch.randn(2, 48, 32), torch.ones(2, 48, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x, mask)
    assert distance(low, layer(x, mask)) < 0.02


def train(layer: Performer, steps: int, again: bool = False) -> list[Tensor]:
    seen = []
    for _ in range(steps):
        x, mask = torch.ones(1, 8, 16, requires_grad=True), torch.ones(1, 8, dtype=torch.bool)
        y = checkpoint(layer, x, mask, use_reentrant=False) if again else layer(x, mask)
        y.sum().backward()
        seen.append(layer.projection.clone())
    return seen


def test_redraws_every_n_steps_and_repeats() -> None:
    def build() -> Performer:
        torch.manual_seed(5)
        return Performer(16, 2, 8, features=8, redraw=2)

    first = train(build(), 5)
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(first)]
    assert changed == [True, False, True, False]
    for other in (train(build(), 5), train(build(), 5, again=True), train(copy.deepcopy(build()), 5)):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    # A checkpoint goes on where it stopped.
    layer, resumed = build(), build()
    train(layer, 3)
    resumed.load_state_dict(layer.state_dict())
    assert torch.equal(train(resumed, 1)[0], first[3])
    frozen = build().eval()
    before = frozen.projection.clone()
    train(frozen, 4)
    assert torch.equal(frozen.projection, before)
    assert "redraw_every" not in vars(Performer(16, 2, 8))


def test_redraws_after_every_step() -> None:
    torch.manual_seed(5)
    seen = train(Performer(16, 2, 8, features=8, redraw=1), 4)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"kernel": "cosine"}, "kernel"),
        ({"features": 0}, "features"),
        ({"redraw": 0}, "redraw"),
        ({"redraw": "often"}, "redraw"),
        ({"hyperbolic": True, "features": 7}, "hyperbolic"),
    ],
)
def test_says_which_option_is_wrong(options, field) -> None:
    with pytest.raises(ValueError, match=rf"^model\.mixer\.{field}: "):
        Performer(16, 2, 8, **options)


def test_no_buffer_is_made_again_while_it_is_in_use(recwarn: pytest.WarningsRecorder) -> None:
    """torch lets a buffer of another shape pass, with a warning, and takes memory that nobody counts on."""
    layer = Performer(dim=16, heads=2, max_len=700, features=24)
    x = torch.randn(2, 700, 16, requires_grad=True)
    layer(x, torch.ones(2, 700, dtype=torch.bool)).sum().backward()
    assert not [w for w in recwarn if "resized" in str(w.message)]
