"""Convolutions beside a mixer, in front of one and in place of one, against their sums over neighbours."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lra.models.evolved import EvolvedStack
from lra.models.identity import Identity
from lra.models.linear import LinearAttention
from lra.models.lsra import LSRA
from lra.models.parts.factory import build
from lra.models.sanm import SANM
from lra.models.short_conv import ShortConvolution
from lra.models.span_conv import SpanConv
from lra.models.squeeze_excite import SqueezeExcite
from lra.models.transformer import FullAttention
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import join, normed, softmax_over, split, under


def affine(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def centred(x: Tensor, taps: Tensor) -> Tensor:
    """x (B, L, D), taps (D, K), or (B, L, D, K) of each position's own."""
    taps = taps.expand(*x.shape, -1)
    rows, count = [], taps.shape[-1]
    for t in range(x.shape[1]):
        near = [(j, t + j - count // 2) for j in range(count)]
        rows.append(sum(taps[:, t, :, j] * x[:, s] for j, s in near if 0 <= s < x.shape[1]))
    return torch.stack(rows, 1)


def attention(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int) -> Tensor:
    q, k, v = (split(x @ w[f"{n}.weight"].T, heads) for n in ("query", "key", "value"))
    return join(softmax_over(q, k, v, mask[:, None, None])) @ w["out.weight"].T


def real(mask: Tensor) -> Tensor:
    return mask[..., None].double()


def lsra(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    far, near = x.chunk(2, -1)
    taps = w["taps"].softmax(-1)  # of a head for its channels
    taps = torch.stack([taps[d // (near.shape[-1] // len(taps))] for d in range(near.shape[-1])])
    near = affine(w, "out", centred(affine(w, "into", near) * real(mask), taps))
    return torch.cat((attention(under(w, "mixer"), far, mask, len(w["taps"])), near), -1)


@pytest.mark.parametrize(("layer", "taps"), [(0, 3), (1, 5), (4, 5)])
def test_lsra_equals_its_equation(layer: int, taps: int) -> None:
    for length in (1, 2, 40):
        torch.manual_seed(length)
        made = LSRA(FullAttention, 24, 3, qkv_dim=12, max_len=40, layer=layer, kernels=(3, 5))
        assert made.taps.shape == (3, taps) and made.mixer.head_dim == 2
        assert_twin(made, lsra, 24, length)
    assert LSRA(FullAttention, 8, 1, max_len=4).taps.shape == (1, 3)


def sanm(w: dict[str, Tensor], x: Tensor, mask: Tensor, exposes: bool) -> Tensor:
    v = x @ w["mixer.value.weight"].T if exposes else x
    return attention(under(w, "mixer"), x, mask, 3) + (v + centred(v * real(mask), w["taps"])) * real(mask)


@pytest.mark.parametrize("width", [12, 6])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_sanm_equals_its_equation(length: int, width: int) -> None:
    """On the values where they are as wide as the input, else on the input."""
    torch.manual_seed(length)
    made = SANM(FullAttention, 12, heads=3, qkv_dim=width, max_len=40, kernel=5)
    assert made.taps.shape == (12, 5) and -(5**-0.5) < made.taps.min() < -0.3 < 0.3 < made.taps.max() < 5**-0.5
    assert_twin(made, partial(sanm, exposes=width == 12), 12, length)


def test_wrappers_hand_on_what_they_are_told() -> None:
    class Told(nn.Module):
        def __init__(self, dim: int, heads: int, max_len: int, layer: int, depth: int, dropout: float) -> None:
            super().__init__()
            self.told = (dim, heads, max_len, layer, depth, dropout)

    facts = {"dim": 16, "heads": 2, "qkv_dim": 16, "max_len": 9, "layer": 1, "depth": 3, "dropout": 0.5, "shared": {}}
    assert build(partial(LSRA, of=Told), **facts).mixer.told == (8, 2, 9, 1, 3, 0.5)
    assert build(partial(SANM, of=Told), **facts).mixer.told == (16, 2, 9, 1, 3, 0.5)
    for wrapper in (LSRA, SANM):
        assert build(partial(wrapper, of=LinearAttention), rotary=True, **facts).mixer.rotary
        with pytest.raises(ValueError, match="rotary is not possible for Told"):
            build(partial(wrapper, of=Told), rotary=True, **facts)


def short(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    v = x @ w["value.weight"].T
    back, ahead = w["conv.ways.0.weight"], w["conv.ways.1.weight"]
    half, taps = len(back), back.shape[1]
    zero = torch.zeros(1, dtype=v.dtype)
    back = torch.cat((back.flip(1), zero.expand(half, taps - 1)), 1)
    ahead = torch.cat((zero.expand(len(ahead), taps - 1), ahead), 1)
    return centred(v, torch.cat((back, ahead))) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 40])
def test_the_short_convolution_equals_its_sum(length: int) -> None:
    torch.manual_seed(length)
    assert_twin(ShortConvolution(12, qkv_dim=7), short, 12, length)


def squeezed(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    mean = torch.stack([r[m].mean(0) if m.any() else r[0] * 0 for r, m in zip(x, mask, strict=True)])
    return x * torch.sigmoid(affine(w, "excite", affine(w, "squeeze", mean).clamp(min=0)))[:, None]


@pytest.mark.parametrize("length", [1, 40])
def test_squeeze_and_excitation_equals_its_equation(length: int) -> None:
    torch.manual_seed(length)
    assert SqueezeExcite(96).squeeze.out_features == 6 and SqueezeExcite(8).squeeze.out_features == 4
    assert_twin(SqueezeExcite(15, reduction=1 if length == 1 else 3), squeezed, 15, length)


def spanned(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int, mixed: bool) -> Tensor:
    attending = heads // 2 if mixed else 0
    q, v = affine(w, "query", x), affine(w, "value", x) * real(mask)
    logits = affine(w, "taps", q * affine(w, "span", centred(x, w["depthwise"])))
    taps = logits.unflatten(-1, (heads - attending, -1)).softmax(-1)
    y = centred(v, taps.repeat_interleave(v.shape[-1] // (heads - attending), 2))
    if attending:
        k, s = (split(affine(w, name, x), attending) for name in ("key", "seen"))
        q = split(q, heads - attending)[:, :attending]
        y = torch.cat((join(softmax_over(q, k, s, mask[:, None, None])), y), -1)
    return affine(w, "out", y)


@pytest.mark.parametrize(("heads", "mixed"), [(4, True), (3, True), (3, False)])
def test_the_span_convolution_equals_its_equation(heads: int, mixed: bool) -> None:
    for length in (1, 2, 30):
        torch.manual_seed(length)
        made = SpanConv(10, heads, qkv_dim=12, kernel=5, mixed=mixed)
        assert (made.key is not None) == mixed
        assert_twin(made, partial(spanned, heads=heads, mixed=mixed), 10, length)


def evolved(w: dict[str, Tensor], x: Tensor, mask: Tensor, cells: int, dim: int = 12) -> Tensor:
    for i in range(cells):
        own = under(w, f"layers.{i}")
        n = normed(own, "norms.0", x)
        x = x + affine(own, "values", n) * torch.sigmoid(affine(own, "gates", n))
        n = normed(own, "norms.1", x) * real(mask)
        three = own["right.weight"].unflatten(1, (3, dim))  # (D / 2, 3, D)
        shifted = [torch.roll(torch.nn.functional.pad(n, (0, 0, 1, 1)), 1 - j, 1)[:, 1:-1] for j in range(3)]
        right = (sum(s @ three[:, j].T for j, s in enumerate(shifted)) + own["right.bias"]).clamp(min=0)
        branches = affine(own, "left", n).clamp(min=0)
        branches = torch.cat((branches[..., : dim // 2] + right, branches[..., dim // 2 :]), -1)
        h = centred(normed(own, "branch_norm", branches) * real(mask), own["depthwise"])
        h = affine(own, "pointwise", h)
        x = torch.cat((x[..., : dim // 2] + h, x[..., dim // 2 :]), -1)
        n = normed(own, "norms.2", x) * real(mask)
        x = x + attention(under(own, "mixer"), n, mask, 3)
        x = x + affine(own, "outer", affine(own, "inner", normed(own, "norms.3", x)).clamp(min=0))
    return normed(w, "norm", x)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_evolved_cell_equals_its_steps(depth: int) -> None:
    for length in (1, 2, 30):
        torch.manual_seed(length)
        mixer = partial(build, FullAttention, dim=12, heads=3, max_len=30)
        stack = EvolvedStack(mixer, depth, 12, 10 if depth == 2 else 6)
        assert len(stack.layers) == depth - 1
        assert_twin(stack, partial(evolved, cells=depth - 1), 12, length)


def test_dropout_falls_on_the_branches_of_the_evolved_cell() -> None:
    torch.manual_seed(0)
    stack = EvolvedStack(partial(build, Identity), 2, 12, 20, dropout=0.5)
    drops = {name: m for name, m in stack.named_modules() if type(m).__name__ == "Dropout"}
    seen = {}
    for name, module in drops.items():
        module.register_forward_hook(lambda m, given, y, name=name: seen.update({name: (given[0], y)}))
    stack.train()(torch.randn(2, 50, 12), torch.ones(2, 50, dtype=torch.bool))
    assert len(seen) == 7
    for given, y in seen.values():
        kept = (y != 0)[given != 0].float().mean()
        assert 0.4 < kept < 0.6
        torch.testing.assert_close(y[y != 0], 2 * given[y != 0])
    widths = sorted(given.shape[-1] for given, _ in seen.values())
    assert widths == [6, 6, 12, 12, 12, 20, 20]


@pytest.mark.parametrize(
    ("build_it", "words"),
    [
        (lambda: LSRA(FullAttention, 16, 3, max_len=9), "size.heads: twice 3 does not divide the width 16"),
        (lambda: LSRA(FullAttention, 16, 2, max_len=9, kernels=[]), "model.mixer.kernels: a layer needs one"),
        (lambda: LSRA(FullAttention, 16, 2, max_len=9, kernels=[4]), "model.mixer.kernels: 4 is not odd and above 0"),
        (lambda: SANM(FullAttention, 16, heads=2, max_len=9, kernel=0), "model.mixer.kernel: 0 is not odd"),
        (lambda: ShortConvolution(16, conv_kernel=0), "model.mixer.conv_kernel: 0 is not above 0"),
        (lambda: SqueezeExcite(16, reduction=0), "model.mixer.reduction: 0 is not above 0"),
        (lambda: SpanConv(16, 3), "size.heads: 3 does not divide qkv_dim 16"),
        (lambda: SpanConv(16, 2, kernel=8), "model.mixer.kernel: 8 is not odd"),
        (lambda: EvolvedStack(partial(build, Identity), 1, 12, 5), "size.mlp_dim: 5 is below 6"),
    ],
)
def test_bad_options_are_told(build_it, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_it()


def test_they_keep_the_contract() -> None:
    kinds = [partial(LSRA, of=FullAttention), partial(SANM, of=LinearAttention), ShortConvolution, SpanConv]
    for kind in (*kinds, partial(SpanConv, mixed=False), SqueezeExcite):
        assert_mixer(partial(build, kind))
