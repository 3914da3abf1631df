"""Sinkhorn attention against a dense matrix: a Kronecker product sorts, an L x 2L softmax attends."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

import lra.models.sinkhorn
from lra.models.parts.heads import rotate
from lra.models.sinkhorn import HIDDEN, Sinkhorn, SinkhornAttention, SortedAttention, attend_fused
from tests.help.compare import assert_mixer, assert_same, random_mask

DIM, HEADS = 12, 2


def permutation(scores: Tensor, iterations: int) -> Tensor:
    """The Sinkhorn operator as section 3.1.2 has it, not in logs."""
    p = scores.exp()
    for _ in range(iterations):
        p = p / p.sum(1, keepdim=True)
        p = p / p.sum(0, keepdim=True)
    return p


def dense(layer: SinkhornAttention, w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
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
    heads = []
    for h in range(layer.heads):
        rows = slice(h * layer.head_dim, (h + 1) * layer.head_dim)
        q, k, v = (x @ w[f"{name}.weight"][rows].T for name in ("query", "key", "value"))
        if layer.rotary:
            q, k = rotate(q), rotate(k)
        q = q * layer.head_dim**-0.5
        p = x.new_zeros(count, count)
        at = real.nonzero()
        p[at, at.T] = permutation(r[real, h][:, real] / layer.temperature, layer.iterations)
        sort = torch.kron(p, torch.eye(width, dtype=x.dtype)) * mask
        share = sort.sum(1) / p.sum(1).clamp(min=1e-30).repeat_interleave(width)
        share = share.detach().log().clamp(min=HIDDEN)
        scores = torch.cat((q @ (sort @ k).T + share, (q @ k.T).masked_fill(~mask, HIDDEN)), 1)
        scores = scores.masked_fill((block[:, None] != block).repeat(1, 2), -torch.inf)
        heads.append(scores.softmax(1) @ torch.cat((sort @ v, v)))
    return (torch.cat(heads, 1) @ w["out.weight"].T)[:length]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans(), st.booleans())
def test_equals_the_dense_matrix(seed: int, length: int, block: int, iterations: int, rotary: bool, full: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layer = SinkhornAttention(DIM, HEADS, 40, block=block, iterations=iterations, rotary=rotary, noise=False)
    mask = random_mask(2, length, generator, scattered=seed % 2 == 0) | torch.tensor(full)
    compare(layer, mask, length, generator)


def compare(layer: SinkhornAttention, mask: Tensor, length: int, generator: torch.Generator) -> None:
    """Outputs, and gradients of the input and of all parameters."""
    names = dict(layer.named_parameters())

    def fast(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values, strict=True)), (x, mask))

    def slow(x: Tensor, *values: Tensor) -> Tensor:
        w = dict(zip(names, values, strict=True))
        return torch.stack([dense(layer, w, *one) for one in zip(x, mask, strict=True)])

    assert_same(fast, slow, [torch.randn(2, length, DIM, generator=generator), *names.values()], mask)


def test_chunks_of_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.sinkhorn, "CPU_BLOCK", 2 * 2 * 8 * 8)
    torch.manual_seed(0)
    layer = SinkhornAttention(DIM, HEADS, 40, block=8, noise=False)
    compare(layer, torch.arange(37) < torch.tensor([[37], [20]]), 37, torch.Generator().manual_seed(0))


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
