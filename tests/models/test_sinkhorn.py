"""Sinkhorn attention against a dense matrix: a Kronecker product sorts, an L x 2L softmax attends."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models import sinkhorn
from lra.models.parts.chance import tell
from lra.models.sinkhorn import Sinkhorn, SinkhornAttention, SortedAttention, attend_fused
from tests.help.compare import assert_mixer
from tests.help.drawn import uniform
from tests.help.paper import assert_equation, assert_xavier, seeded, some_mask, turned, wake

DIM, QKV, HEADS = 12, 8, 2


def permutation(scores: Tensor, iterations: int) -> Tensor:
    """The Sinkhorn operator as section 3.1.2 has it, not in logs."""
    p = scores.exp()
    for _ in range(iterations):
        p = p / p.sum(1, keepdim=True)
        p = p / p.sum(0, keepdim=True)
    return p


def dense(
    w: dict[str, Tensor], x: Tensor, mask: Tensor, layer: SinkhornAttention, noise: Tensor | None = None
) -> Tensor:
    """One example after the other; noise (B, H, S, S) is added to R."""
    noises = [None] * len(x) if noise is None else noise
    return torch.stack([one(layer, w, *row) for row in zip(x, mask, noises, strict=True)])


def one(layer: SinkhornAttention, w: dict[str, Tensor], x: Tensor, mask: Tensor, noise: Tensor | None) -> Tensor:
    """What the layer with parameters w must be on one example: x (L, D), mask (L,).

    With L made a multiple of the block, `sort` (L, L) is P for blocks and the identity within them.
    """
    length, width = len(x), min(layer.block, len(x))
    x = torch.nn.functional.pad(x * mask[:, None], (0, 0, 0, -length % width))
    mask = torch.nn.functional.pad(mask, (0, -length % width))
    block = torch.arange(len(x)) // width
    count = int(block[-1]) + 1
    real = mask.view(count, width).any(1)
    hidden = (x.view(count, width, -1).sum(1) @ w["sort.0.weight"].T + w["sort.0.bias"]).relu()
    r = (hidden @ w["sort.2.weight"].T + w["sort.2.bias"]).relu().view(count, layer.heads, -1)[:, :, :count]
    if noise is not None:
        r = r + noise.permute(1, 0, 2)
    heads, each = [], QKV // HEADS
    for h in range(HEADS):
        rows = slice(h * each, (h + 1) * each)
        q, k, v = (x @ w[f"{name}.weight"][rows].T for name in ("query", "key", "value"))
        if layer.rotary:
            q, k = turned(q), turned(k)
        q = q / each**0.5
        p = x.new_zeros(count, count)
        at = real.nonzero()
        p[at, at.T] = permutation(r[real, h][:, real] / layer.temperature, layer.iterations)
        sort = torch.kron(p, torch.eye(width, dtype=x.dtype)) * mask
        share = sort.sum(1) / p.sum(1).clamp(min=1e-30).repeat_interleave(width)
        share = share.detach().log().clamp(min=-1e4)
        scores = torch.cat((q @ (sort @ k).T + share, (q @ k.T).masked_fill(~mask, -1e4)), 1)
        scores = scores.masked_fill((block[:, None] != block).repeat(1, 2), -torch.inf)
        heads.append(scores.softmax(1) @ torch.cat((sort @ v, v)))
    return (torch.cat(heads, 1) @ w["out.weight"].T)[:length]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_equals_the_dense_matrix(seed: int, length: int, block: int, iterations: int, rotary: bool) -> None:
    torch.manual_seed(seed)
    options = {"block": block, "iterations": iterations, "rotary": rotary, "temperature": 0.5 + seed % 2}
    layer = SinkhornAttention(DIM, HEADS, 40, qkv_dim=QKV, noise=False, **options)
    wake(layer, seed, 0.1)
    assert_equation(layer, partial(dense, layer=layer), torch.randn(2, length, DIM), some_mask(2, length, seed))


@pytest.mark.parametrize("at_once", [2, 10, 20])
@pytest.mark.parametrize("rotary", [False, True])
def test_tiles_and_chunks_change_nothing(at_once: int, rotary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of a head at a time, two of four heads together, all heads of an example, all of both."""
    torch.manual_seed(0)
    layer = SinkhornAttention(DIM, 4, 40, qkv_dim=QKV, block=8, noise=False, rotary=rotary, dropout=0.3)
    x, mask = torch.randn(2, 37, DIM), torch.arange(37) < torch.tensor([[37], [20]])
    found = []
    for block in (sinkhorn.CPU_BLOCK, at_once * 2 * 8 * 8):
        monkeypatch.setattr(sinkhorn, "CPU_BLOCK", block)
        tell(layer, 0, 0, torch.arange(2))
        leaf = x.clone().requires_grad_()
        y = layer(leaf, mask)
        found.append((y, *torch.autograd.grad(y[mask].sin().sum(), (leaf, *layer.parameters()))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rotary", [False, True])
def test_the_form_for_other_devices_is_the_same(rotary: bool) -> None:
    """What CUDA runs, on the CPU: autograd around the fused kernel."""
    torch.manual_seed(0)
    p = torch.rand(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 20, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3 * 3 * 6, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.rand(2, 3, 5, 1, 8, dtype=torch.float64).log()
    results = []
    for run in (attend_fused, SortedAttention.apply):
        y = run(p, x, weight, bias, rotary, 0.0)
        results.append([y, *torch.autograd.grad(y.sin().sum(), (p, x, weight))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_and_columns_sum_to_one_over_real_blocks() -> None:
    torch.manual_seed(0)
    real = torch.tensor([[True, True, True, False], [True, False, False, False]])
    padding = ~real[:, None]
    scores = torch.randn(2, 3, 4, 4).masked_fill(padding[..., None] | padding[..., None, :], -1e9)
    p = Sinkhorn.apply(scores, padding, 60)
    for axis in (-1, -2):
        torch.testing.assert_close(p.sum(axis), real[:, None].expand(2, 3, 4).float())


def test_a_sharp_sort_moves_whole_blocks() -> None:
    """Scores that prefer a permutation, at a low temperature, give it."""
    order = torch.tensor([2, 0, 3, 1])
    scores = torch.eye(4)[order] / 0.01
    torch.testing.assert_close(Sinkhorn.apply(scores[None, None], None, 5)[0, 0], torch.eye(4)[order])


@pytest.mark.parametrize("full", [True, False])
def test_noise_is_gumbel_and_under_the_temperature(full: bool) -> None:
    """(R + G) / temperature, G = -log(-log u): with u known, in outputs and gradients."""
    torch.manual_seed(0)
    layer = seeded(SinkhornAttention(DIM, HEADS, 40, qkv_dim=QKV, block=8, temperature=0.6).double())
    mask = torch.arange(40) < torch.tensor([[40], [40 if full else 20]])
    torch.manual_seed(5)
    slow = partial(dense, layer=layer, noise=-(-uniform((2, HEADS, 5, 5)).log()).log())
    assert_equation(layer, slow, torch.randn(2, 40, DIM), mask, single=None)


def test_noise_by_its_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to R is Gumbel's: mean 0.5772, variance pi^2 / 6, and the long tail above."""
    torch.manual_seed(0)
    layer = SinkhornAttention(DIM, HEADS, 64, block=2, temperature=0.6)
    monkeypatch.setattr(Sinkhorn, "apply", lambda scores, *rest: scores)
    x = torch.randn(4, 32, 2, DIM)
    with torch.no_grad():
        still = layer.eval().order(x, None)
        noise = ((layer.train().order(x, None) - still) * 0.6).double()
    count = noise.numel()
    assert abs(noise.mean() - 0.5772) < 4 * (torch.pi**2 / 6 / count) ** 0.5
    assert abs(noise.var() - torch.pi**2 / 6) < 4 * torch.pi**2 / 6 * (4.4 / count) ** 0.5
    steps = (-(-noise).exp()).exp().flatten().sort().values  # Gumbel's distribution function makes it uniform
    assert (steps - torch.arange(count) / count).abs().max() < 2 / count**0.5
    for axis in range(4):
        first, second = noise.select(axis, 0), noise.select(axis, 1)
        assert abs(((first - 0.5772) * (second - 0.5772)).mean()) < 4.5 * 1.645 / first.numel() ** 0.5


def test_noise_is_for_training_and_from_the_seed() -> None:
    torch.manual_seed(0)
    layer = SinkhornAttention(DIM, HEADS, 32, block=4)
    x, mask = torch.randn(1, 32, DIM), torch.ones(1, 32, dtype=torch.bool)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(x, mask)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    layer.eval()
    assert torch.equal(run(1), run(2))


def test_dropout_is_the_same_in_both_passes() -> None:
    torch.manual_seed(0)
    layer = SinkhornAttention(DIM, HEADS, 20, block=4, dropout=0.4, noise=False).double()
    x, mask = torch.randn(2, 20, DIM, dtype=torch.float64), torch.ones(2, 20, dtype=torch.bool)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return layer(x, mask).sin().sum()

    torch.autograd.gradcheck(run, x.requires_grad_(), fast_mode=True)
    assert run(x) != layer.eval()(x, mask).sin().sum()


def test_where_it_starts_and_what_the_configuration_leaves_out() -> None:
    torch.manual_seed(0)
    layer = SinkhornAttention(48, 2, 100, block=4)
    assert_xavier(layer.sort[0].weight, 48, 48)
    assert_xavier(layer.sort[2].weight, 48, 50)
    assert not layer.sort[0].bias.any() and not layer.sort[2].bias.any()
    plain = SinkhornAttention(48, 2, 100)
    assert (plain.block, plain.iterations, plain.temperature, plain.noise) == (64, 7, 0.75, True)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(SinkhornAttention, block=8, noise=False))


@pytest.mark.parametrize(("field", "value"), [("block", 0), ("iterations", 0), ("temperature", 0.0)])
def test_bad_options_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"model.mixer.{field}: {value}"):
        SinkhornAttention(DIM, HEADS, 32, **{field: value})


def test_more_blocks_than_the_sort_network_knows_are_refused() -> None:
    layer = SinkhornAttention(DIM, HEADS, 32, block=8)
    with pytest.raises(ValueError, match="length 33 is above the 32"):
        layer(torch.zeros(1, 33, DIM), torch.ones(1, 33, dtype=torch.bool))
