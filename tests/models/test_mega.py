"""Mega against its equations, the average a step at a time and all weights of the attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lra.models.mega
import lra.models.parts.tiles
from lra.models.mega import ATTENTIONS, Mega, MovingAverage
from lra.models.parts.chance import tell
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_normal, wake
from tests.help.recurrence import kept, masks, recurrent

KEYS, CHUNK, TAPS = 6, 16, 20


def averaged(w: dict[str, Tensor], x: Tensor, taps: int = TAPS) -> Tensor:
    """Equation of the paper's EMA, one position at a time, to both sides; what is `taps` back is forgotten."""
    length = x.shape[1]
    p, damping = (1 / (1 + (-w[f"average.{n}"]).exp()) for n in ("weight", "damping"))
    out = x * w["average.skip"]
    for way, order in enumerate((range(length), range(length - 1, -1, -1))):
        q = 1 - p[way] * damping[way]
        for t in order:
            state = 0
            for lag in range(min(taps, t + 1 if way == 0 else length - t)):
                there = x[:, t - lag if way == 0 else t + lag, :, None]
                state = state + p[way] * w["average.into"][way] * q**lag * there
            row = (state * w["average.out"][way]).sum(-1) / q.shape[-1] ** 0.5
            out = out + F.pad(row.unsqueeze(1), (0, 0, t, length - 1 - t))
    return out


def equation(
    w: dict[str, Tensor],
    x: Tensor,
    mask: Tensor,
    chunk: int | None,
    attention: str,
    average: Callable[[dict[str, Tensor], Tensor], Tensor] = averaged,
    dropped: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = (lambda x: x, lambda x: x),
    residual: Tensor | None = None,
) -> Tensor:
    """All weights at once. average: what stands before the attention; dropped: dropout of x~ and of h."""
    length, dim = x.shape[1:]
    smooth = dropped[0](F.silu(average(w, x)))
    values = F.silu(x @ w["value.weight"].T + w["value.bias"])
    u, z, r, c = (smooth @ w["mixed.weight"].T + w["mixed.bias"]).split([dim, KEYS, 3 * dim, dim], -1)
    q, k = (F.silu(z) * w["gain"][i] + w["offset"][i] for i in (0, 1))
    place = torch.arange(length)
    far = (place - place[:, None]).clamp(-(len(w["bias"]) // 2), len(w["bias"]) // 2)
    bias = w["bias"][len(w["bias"]) // 2 + far]
    near = torch.ones(length, length, dtype=torch.bool) if chunk is None else place // chunk == place[:, None] // chunk
    seen = (near & mask[:, None]).double()
    if attention == "softmax":
        weights = (q @ k.mT / KEYS**0.5 + bias).exp() * seen
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    else:
        t = q @ k.mT / seen.sum(-1, keepdim=True).clamp(min=1) + bias
        weights = (
            torch.distributions.Normal(*torch.tensor([0.5, 0.25 / math.pi], dtype=torch.float64).sqrt()).cdf(t) * seen
        )
    h = dropped[1](F.silu(c + (F.silu(r) * (weights @ values)) @ w["out.weight"].T + w["out.bias"]))
    return torch.sigmoid(u) * (h - (x if residual is None else residual))


def tile(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Numbers of a buffer; 1: a chunk, or a query, at a time."""
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)
    monkeypatch.setattr(lra.models.mega, "ROWS", 1)


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("chunk", [CHUNK, None])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_layer_equals_the_equations(
    attention: str, chunk: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile(monkeypatch, block)
    for length in (1, 15, 40):
        torch.manual_seed(length)
        layer = Mega(4, 41, chunk=chunk, attention=attention, keys=KEYS, expand=3, speeds=3, truncation=TAPS)
        wake(layer)
        slow = recurrent(partial(equation, chunk=chunk, attention=attention))
        assert_equation(layer, slow, torch.randn(5, length, 4), masks(length), single=1e-5)


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("chunk", [CHUNK, None])
def test_the_residual_is_what_h_takes_the_place_of(
    chunk: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile(monkeypatch, block)
    torch.manual_seed(0)
    layer = Mega(4, 41, chunk=chunk, keys=KEYS, expand=3, speeds=3, truncation=TAPS).double()
    wake(layer)
    x, other = torch.randn(2, 1, 40, 4, dtype=torch.float64).requires_grad_().unbind()
    mask, w = torch.ones(1, 40, dtype=torch.bool), dict(layer.named_parameters())
    back = torch.randn_like(x)
    ours, exact = layer(x, mask, residual=other), equation(w, x, mask, chunk, "softmax", residual=other)
    torch.testing.assert_close(ours, exact)
    wanted = [x, other, *w.values()]
    for a, b in zip(*(torch.autograd.grad(y, wanted, back) for y in (ours, exact)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("block", [1, 1 << 19])
@pytest.mark.parametrize("chunk", [CHUNK, None])
def test_the_average_and_h_are_dropped(chunk: int | None, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by numbers of its own, the same for a place however many are taken at a time."""
    tile(monkeypatch, block)
    torch.manual_seed(0)
    layer = Mega(4, 41, chunk=chunk, keys=KEYS, expand=3, speeds=3, truncation=TAPS, inner_dropout=0.4)
    layer = layer.double().train()
    wake(layer)
    x, mask = torch.randn(2, 37, 4, dtype=torch.float64, requires_grad=True), torch.ones(2, 37, dtype=torch.bool)
    tell(layer, 3, 5, torch.tensor([4, 1]))
    w, dropped = dict(layer.named_parameters()), (layer.smooth_dropout, layer.hidden_dropout)
    ours, exact = layer(x, mask), equation(w, x, mask, chunk, "softmax", dropped=dropped)
    torch.testing.assert_close(ours, exact)
    back, wanted = torch.randn_like(x), [x, *w.values()]
    for a, b in zip(*(torch.autograd.grad(y, wanted, back) for y in (ours, exact)), strict=True):
        torch.testing.assert_close(a, b)
    ones = torch.ones_like(x)
    assert not torch.equal(dropped[0](ones), dropped[1](ones)) and not dropped[0](ones).all()
    assert Mega(4, 41).smooth_dropout is None and Mega(4, 41).hidden_dropout is None


def test_taps_far_away() -> None:
    """The kernel at 1,024 taps and at speeds near 0 and 1: its definition, in float64."""
    torch.manual_seed(0)
    average = MovingAverage(3, 4, 1024)
    torch.nn.init.uniform_(average.weight, -12, 12)
    w = {n: p.double() for n, p in average.named_parameters()}
    p = w["weight"].sigmoid()
    log_q = torch.log1p(-p * w["damping"].sigmoid()).unsqueeze(-1)
    powers = (log_q * torch.arange(1000)).exp()
    exact = (powers * (p * w["into"] * w["out"] / 2).unsqueeze(-1)).sum(2)
    torch.testing.assert_close(
        average.kernels(1000).double(), exact, rtol=0, atol=1e-5 * float(exact.detach().abs().max())
    )


def test_kernels_and_weights_stay_exact_under_autocast() -> None:
    torch.manual_seed(0)
    layer = Mega(8, 64, chunk=16)
    q, k, values = torch.randn(2, 16, 64), torch.randn(2, 16, 64), torch.randn(2, 16, 16)
    given = q, k, values, torch.ones(2, 1, 16, dtype=torch.bool), layer.biases(0, 16, 16), 0
    taps, attended = layer.average.kernels(40), layer.attend(*given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.average.kernels(40), taps) and torch.equal(layer.attend(*given), attended)


def test_another_chunk_moves_no_answer_beyond_the_average() -> None:
    """Attention stays in its chunk: with two taps, an input reaches its own chunk and its two neighbours."""
    torch.manual_seed(0)
    layer, x = Mega(8, 64, chunk=16, truncation=2), torch.randn(1, 64, 8, requires_grad=True)
    wake(layer, by=0.5)
    layer(x, torch.ones(1, 64, dtype=torch.bool))[0, 20].sum().backward()
    size = x.grad[0].abs().amax(-1)
    assert size[15:33].min() > 1e-5 * size.max()  # beyond it is what the FFT rounds
    assert size[:15].max() < 1e-6 * size.max() and size[33:].max() < 1e-6 * size.max()


def test_turned_round() -> None:
    torch.manual_seed(0)
    layer, x, mask = Mega(8, 64, chunk=16), torch.randn(2, 64, 8), torch.ones(2, 64, dtype=torch.bool)
    y = layer(x, mask)
    with torch.no_grad():
        layer.bias.copy_(layer.bias.flip(0))
        for name in ("weight", "damping", "into", "out"):
            getattr(layer.average, name).copy_(getattr(layer.average, name).flip(0))
    torch.testing.assert_close(layer(x.flip(1), mask).flip(1), y, rtol=1e-5, atol=1e-5)


def test_weights_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    for chunk in (16, None):
        layer, x, mask = Mega(8, 64, dropout=0.5, chunk=chunk), torch.randn(2, 64, 8), torch.ones(2, 64).bool()
        exact = layer.eval()(x, mask)
        assert torch.equal(layer(x, mask), exact)
        first, second = layer.train()(x, mask), layer(x, mask)
        assert not torch.allclose(first, second) and not torch.allclose(first, exact)


@pytest.mark.parametrize("chunk", [16, None])
def test_what_is_dropped_hangs_on_its_place_alone(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on how many chunks or queries are taken at a time, nor on the padding; chunks draw numbers of their own."""
    torch.manual_seed(0)
    layer, x = Mega(8, 90, dropout=0.5, chunk=chunk).train(), torch.randn(2, 64, 8)
    wake(layer, by=0.5)
    answers = []
    for block, more in ((1 << 19, 0), (1, 0), (64 * 40, 0), (1 << 19, 21)):
        tile(monkeypatch, block)
        mask = torch.arange(64 + more).expand(2, -1) < 64
        tell(layer, 0, 0, torch.arange(2))
        answers.append(layer(F.pad(x, (0, 0, 0, more)), mask)[:, :64])
    for again in answers[1:]:
        torch.testing.assert_close(again, answers[0], rtol=1e-4, atol=1e-5)
    parts = x[:, :16].repeat(1, 4, 1)
    layer.average.requires_grad_(False).out.zero_()
    layer.train()
    tell(layer, 0, 0, torch.arange(2))
    y = layer(parts, torch.ones(2, 64, dtype=torch.bool))
    assert not torch.allclose(y[:, :16], y[:, 16:32]) and not torch.allclose(y[0], y[1])


def test_dropped_weights_are_the_same_going_back() -> None:
    """The gradient of what was computed: a step along it changes the output as it says."""
    torch.manual_seed(0)
    layer, x = Mega(8, 64, dropout=0.5, chunk=16).double().train(), torch.randn(2, 64, 8).double().requires_grad_()
    wake(layer, by=0.5)
    mask, step = torch.ones(2, 64, dtype=torch.bool), torch.randn(2, 64, 8).double()

    def run(at: Tensor) -> Tensor:
        torch.manual_seed(3)
        return layer(at, mask).square().sum()

    (gradient,) = torch.autograd.grad(run(x), x)
    with torch.no_grad():
        slope = (run(x + 1e-5 * step) - run(x - 1e-5 * step)) / 2e-5
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-6, atol=1e-8)


def test_it_starts_as_the_authors_have_it() -> None:
    torch.manual_seed(0)
    layer = Mega(64, 900)
    for name in ("value", "mixed", "out"):
        assert_normal(getattr(layer, name).weight, 0.02)
        assert not getattr(layer, name).bias.any()
    assert layer.mixed.weight.shape == (64 + 64 + 128 + 64, 64) and layer.value.weight.shape == (128, 64)
    average = layer.average
    assert average.weight.shape == (2, 64, 16) and average.truncation == 1024
    for values, std in ((average.weight, 0.2), (average.damping, 0.2), (average.out, 1), (average.skip, 1)):
        assert_normal(values, std)
    signs = torch.tensor([1.0, -1.0] * 8)
    assert_normal(average.into - signs, 0.02)
    assert layer.gain.shape == (2, 64) and not layer.offset.any() and layer.bias.shape == (2 * 128 - 1,)
    assert_normal(layer.gain, 0.02)
    assert_normal(layer.bias, 0.02)
    assert (layer.attention, layer.chunk, layer.dropout.p) == ("softmax", 128, 0.0)
    assert Mega(8, 900, chunk=None).bias.shape == (2 * 900 - 1,)


def test_little_is_kept_for_the_backward_pass() -> None:
    """x, its average before and after silu and the output; no weights of the attention."""
    layer, x = Mega(16, 256), torch.randn(1, 256, 16, requires_grad=True)
    weights = sum(p.numel() for p in layer.parameters())
    taps = 2 * 16 * (256 + 2 * 16 * 16) + 4 * 2 * 16 * 16 * 3
    assert kept(lambda: layer(x, torch.ones(1, 256, dtype=torch.bool))) <= 6 * x.numel() + weights + 2 * taps


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.attention: 'relu' is not one of softmax, laplace"):
        Mega(8, 9, attention="relu")
    with pytest.raises(ValueError, match="model.mixer.chunk: 0 is not above 0, or null"):
        Mega(8, 9, chunk=0)
    for field in ("keys", "expand", "speeds", "truncation"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0$"):
            Mega(8, 9, **{field: 0})
    layer = Mega(8, 9, chunk=None)
    with pytest.raises(ValueError, match="length 10 is above the 9 positions whose distances are learned"):
        layer(torch.zeros(1, 10, 8), torch.ones(1, 10, dtype=torch.bool))


@pytest.mark.parametrize("chunk", [16, None])
def test_keeps_the_contract(chunk: int | None) -> None:
    assert_mixer(partial(build, partial(Mega, chunk=chunk)))
