"""Attention with dropout on a CPU, in blocks, against the formula with the mask given, in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lra.models.linformer import Linformer
from lra.models.parts import softmax
from lra.models.parts.chance import Chance, Drops, drawn, keep, scale, tell
from lra.models.parts.softmax import attend, dropped
from lra.models.sinkhorn import SinkhornAttention
from lra.models.synthesizer import Synthesizer
from lra.models.transformer import FullAttention
from tests.bench.layers import step_peak_bytes, training_step
from tests.help.compare import distance
from tests.help.drawn import dropped_weights, told

RATE = 0.3
SHAPES = [(1, 1, 1, 1, 4), (3, 2, 70, 70, 8), (2, 3, 300, 40, 5), (9, 2, 33, 500, 8)]  # B, H, L, M, E


def drops_of(batch: int, heads: int, queries: int, keys: int, seed: int = 4, step: int = 2) -> Drops:
    chance = Chance()
    tell(chance, seed, step, torch.arange(batch))
    return chance.drops((batch, heads, queries, keys), RATE, torch.device("cpu"))


def inputs(batch: int, heads: int, queries: int, keys: int, width: int) -> list[Tensor]:
    """q, k, v as projections leave them."""
    torch.manual_seed(queries)
    lengths = (queries, keys, keys)
    return [torch.randn(batch, n, heads, width, dtype=torch.float64).transpose(1, 2).requires_grad_() for n in lengths]


def slow(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor | None,
    factor: float,
    table: Tensor | float = 0.0,
    causal: bool = False,
) -> Tensor:
    """The formula, with the mask of `drops_of`, found number by number."""
    scores = factor * (q @ k.mT) + table
    if keys is not None:
        scores = scores.masked_fill(~keys, -torch.inf)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    examples = [told(4, 2, 0, b) for b in range(len(q))]
    return dropped_weights(scores.softmax(-1), RATE, examples) @ v


def assert_both(fast: Tensor, exact: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(fast, exact)
    back = torch.randn_like(exact)
    for a, b in zip(*(torch.autograd.grad(y, leaves, back) for y in (fast, exact)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scores", [1 << 17, 700])
def test_equals_the_formula(shape: tuple, masked: bool, scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a block in queries, keys, heads and examples."""
    monkeypatch.setattr(softmax, "SCORES", scores)
    if scores < 1000:
        monkeypatch.setattr(softmax, "QUERIES", 7)
        monkeypatch.setattr(softmax, "FEWEST_QUERIES", 3)
        monkeypatch.setattr(softmax, "KEYS", 16)
    x = inputs(*shape)
    keys = None
    if masked:
        keys = torch.rand(shape[0], 1, 1, shape[3]) < 0.7
        keys[..., 0] = True
    for factor in (None, 0.2):
        for causal in (False, True) if shape[2] == shape[3] else (False,):
            exact = slow(*x, keys, shape[4] ** -0.5 if factor is None else factor, causal=causal)
            assert_both(attend(*x, keys, drops_of(*shape[:4]), factor, causal), exact, x)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_table_is_added(own: bool, products: bool, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all examples or one each, with products or alone, and its gradient; of hidden keys it may be huge."""
    monkeypatch.setattr(softmax, "SCORES", 3000)
    monkeypatch.setattr(softmax, "QUERIES", 16)
    monkeypatch.setattr(softmax, "FEWEST_QUERIES", 8)
    monkeypatch.setattr(softmax, "KEYS", 24)
    batch, heads, length = 3, 2, 40
    q, k, v = inputs(batch, heads, length, length, 6)
    table = torch.randn(batch if own else 1, heads, length, length, dtype=torch.float64, requires_grad=True)
    if not products:
        q, k = (t.detach()[..., :0].requires_grad_() for t in (q, k))
    leaves = [q, k, v, table] if products else [v, table]
    keys = torch.arange(length) < torch.tensor([40, 23, 5]).view(3, 1, 1, 1) if masked else None
    if masked and own:
        table.data.masked_fill_(~keys, 1e4)
    fast = dropped(q, k, v, keys, drops_of(batch, heads, length, length), 0.5, table)
    assert_both(fast, slow(q, k, v, keys, 0.5, table), leaves)


def test_who_sees_nothing_gets_nothing() -> None:
    x = inputs(2, 2, 9, 9, 4)
    keys = torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 1, 9)
    y = attend(*x, keys, drops_of(2, 2, 9, 9))
    gradients = torch.autograd.grad(y.square().sum(), x)
    assert not y[1].any() and all(not g[1].any() for g in gradients)
    assert y[0].any() and all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_large_scores_neither_overflow_nor_vanish(masked: bool, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some whose exponentials would be beyond float32, and what hides keys among them; the largest in any block."""
    monkeypatch.setattr(softmax, "KEYS", 16)
    x = [(t * 40).detach().requires_grad_() for t in inputs(2, 2, 50, 50, 8)]
    keys = None
    if masked:
        keys = torch.rand(2, 1, 1, 50) < 0.7
        keys[..., 0] = True
    exact = slow(*x, keys, 8**-0.5, causal=causal)
    assert_both(attend(*x, keys, drops_of(2, 2, 50, 50), causal=causal), exact, x)
    low = attend(*(t.detach().float() for t in x), keys, drops_of(2, 2, 50, 50), causal=causal)
    assert distance(low, exact) < 1e-5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [-40.0, 40.0])
def test_a_tile_is_made_with_care_where_it_has_to_be(
    size: float, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the middle on, scores of all keys are beyond what float32 has exponentials for, or below."""
    monkeypatch.setattr(softmax, "SCORES", 100)
    monkeypatch.setattr(softmax, "QUERIES", 7)
    monkeypatch.setattr(softmax, "FEWEST_QUERIES", 3)
    monkeypatch.setattr(softmax, "KEYS", 16)
    x = [t.detach() for t in inputs(2, 2, 50, 50, 8)]
    x[0][1, :, 25:, 0], x[1][..., 0] = size, 40.0
    x = [t.requires_grad_() for t in x]
    keys = torch.arange(50) < torch.tensor([50, 23]).view(2, 1, 1, 1) if masked else None
    exact = slow(*x, keys, 8**-0.5)
    low = [t.detach().float().requires_grad_() for t in x]
    made = []
    real = softmax.Heads.careful
    monkeypatch.setattr(softmax.Heads, "careful", lambda here, *given: made.append(here.some) or real(here, *given))
    y = attend(*low, keys, drops_of(2, 2, 50, 50))
    assert slice(0, 1) not in made and slice(1, 2) in made
    assert_both(attend(*x, keys, drops_of(2, 2, 50, 50)), slow(*x, keys, 8**-0.5), x)
    # A score of 566 has an error of 3e-5 in float32.
    assert distance(y, exact) < 1e-4
    gradients = (torch.autograd.grad(t.double().sin().sum(), leaves) for t, leaves in ((y, low), (exact, x)))
    for a, b in zip(*gradients, strict=True):
        assert distance(a, b) < 1e-3


def test_what_nobody_sees_may_be_of_any_size() -> None:
    """Neither the answer nor a gradient is moved by it, and it does not tell how the softmax is made."""
    x = inputs(2, 2, 40, 40, 8)
    keys = torch.arange(40) < torch.tensor([40, 23]).view(2, 1, 1, 1)
    loud = [t.detach().clone() for t in x]
    for t in loud[1:]:
        t[1, :, 23:] = 1e6
    loud = [t.requires_grad_() for t in loud]
    drops = drops_of(2, 2, 40, 40)
    y, other = attend(*x, keys, drops), attend(*loud, keys, drops)
    assert torch.equal(y, other)
    for a, b in zip(torch.autograd.grad(y.sin().sum(), x), torch.autograd.grad(other.sin().sum(), loud), strict=True):
        assert torch.equal(a, b)
    assert not torch.autograd.grad(attend(*loud, keys, drops).sin().sum(), loud)[1][1, :, 23:].any()


@pytest.mark.parametrize("how", ["float32", "bfloat16", "autocast"])
def test_narrow_types(how: str) -> None:
    """The same weights are dropped; scores are in float32 at least, autocast or not."""
    x = inputs(2, 2, 130, 130, 8)
    exact = attend(*x, None, drops_of(2, 2, 130, 130))
    gradients = torch.autograd.grad(exact.sin().sum(), x)
    dtype = torch.float32 if how == "float32" else torch.bfloat16
    low = [t.detach().to(dtype).requires_grad_() for t in x]
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        y = attend(*low, None, drops_of(2, 2, 130, 130))
    assert y.dtype == dtype
    bound = 1e-5 if how == "float32" else 0.02
    assert distance(y, exact) < bound
    for a, b in zip(torch.autograd.grad(y.double().sin().sum(), low), gradients, strict=True):
        assert a.dtype == dtype and distance(a, b) < bound


def test_who_says_which_way_it_takes() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    ways = {
        FullAttention: ("fused", "blocks", "fused"),
        Linformer: ("fused", "blocks", "fused"),
        partial(Synthesizer, kind="dense"): ("fused", "blocks", "fused"),
        partial(Synthesizer, kind="random"): ("plain", "blocks", "plain"),
        SinkhornAttention: ("blocks", "blocks", "fused"),
    }
    for build, expected in ways.items():
        still, dropping = build(16, 2, 32), build(16, 2, 32, dropout=0.1)
        assert (still.path(cpu), dropping.path(cpu), dropping.path(cuda)) == expected


def test_without_dropout_and_off_the_cpu_it_is_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None) -> Tensor:
        seen.append((attn_mask is None, dropout_p, is_causal, scale))
        return v

    monkeypatch.setattr(softmax.F, "scaled_dot_product_attention", kernel)
    x = torch.randn(1, 1, 4, 2)
    attend(x, x, x, None, None)
    meta = x.to("meta")
    attend(meta, meta, meta, None, Chance().drops((1, 1, 4, 4), RATE, meta.device), 0.5)
    attend(x, x, x, torch.tensor([True, False, True, True]).view(1, 1, 1, 4), None, causal=True)
    # Never a mask beside the causal one, which would be L x L.
    assert seen == [(True, 0.0, False, None), (True, RATE, False, 0.5), (True, 0.0, True, None)]
    attend(x, x, x, None, drops_of(1, 1, 4, 4))
    assert len(seen) == 3


@pytest.mark.parametrize("build", [
    FullAttention,
    pytest.param(partial(FullAttention, causal=True), marks=pytest.mark.slow),
    pytest.param(Synthesizer, marks=pytest.mark.slow),
])  # fmt: skip
def test_no_more_memory_than_without_dropout(build: Callable[..., torch.nn.Module]) -> None:
    """Kept for the backward pass, and the peak of a step: what the fused kernel needs, or less."""
    length = 1024
    mask = torch.ones(1, length, dtype=torch.bool)
    kept_bytes, peaks = [], []
    for rate in (0.0, 0.1):
        torch.manual_seed(0)
        layer = build(256, 4, length, dropout=rate)
        total: dict[int, int] = {}
        with saved_tensors_hooks(lambda t, total=total: total.update({t.data_ptr(): t.nbytes}) or t, lambda t: t):
            layer(torch.randn(1, length, 256, requires_grad=True), mask)
        kept_bytes.append(sum(total.values()))
        peaks.append(step_peak_bytes(training_step(layer, length, 1, "cpu", torch.float32, True)))
    # Three buffers of scores, whatever the length, and two numbers a position.
    assert kept_bytes[1] <= kept_bytes[0] * 1.1
    assert peaks[1] <= peaks[0] * 1.15


def test_dropped_weights_by_their_law() -> None:
    """Rate, and independence over queries, keys, heads, examples, layers, steps and seeds."""
    layers = torch.nn.ModuleList([Chance(), Chance()])

    def ones(step: int, seed: int = 0) -> Tensor:
        tell(layers, seed, step, torch.arange(3))
        drops = [layer.drops((3, 2, 120, 110), 0.1, torch.device("cpu")) for layer in layers]
        into = torch.empty(2, 3, 2, 120, 110)
        for d, part in zip(drops, into, strict=True):
            z = drawn(d.rows.unsqueeze(-1), d.columns.unsqueeze(-2), torch.empty_like(part))
            keep(torch.ones_like(part), z, d.rate, part)
        return into.double()

    x = torch.stack([ones(0), ones(1), ones(0, seed=1)])  # seeds and steps, layers, examples, heads, queries, keys
    count = x.numel()
    assert abs(x.mean() - 0.9) < 4 * (0.09 / count) ** 0.5
    y = (x - 0.9) / 0.3
    for axis in range(y.dim()):
        for apart in range(1, min(y.shape[axis], 9)):
            a, b = y.narrow(axis, 0, y.shape[axis] - apart), y.narrow(axis, apart, y.shape[axis] - apart)
            assert abs((a * b).mean().item()) < 5 / a.numel() ** 0.5, (axis, apart)
        shares = y.movedim(axis, 0).flatten(1).mean(1) * (count / y.shape[axis]) ** 0.5
        assert shares.abs().max() < 5, axis


def test_what_is_kept_is_kept_in_every_type() -> None:
    d = drops_of(2, 1, 6, 7)
    rows, columns = d.rows.unsqueeze(-1), d.columns.unsqueeze(-2)
    exact = d.of(torch.ones(2, 1, 6, 7, dtype=torch.float64)) / scale(RATE)
    for dtype in (torch.float32, torch.float64):
        z = drawn(rows, columns, torch.empty(2, 1, 6, 7, dtype=dtype))
        assert z.element_size() == torch.empty((), dtype=dtype).element_size()
        for into in (dtype, torch.bfloat16):
            x = torch.full((2, 1, 6, 7), -1.5, dtype=into)
            assert keep(x, z, RATE, x) is x and torch.equal(x.double(), exact * -1.5)
        x = torch.full((2, 1, 6, 7), torch.nan, dtype=dtype)
        # In the memory of the numbers, which are then no more.
        assert torch.equal(keep(x, z, RATE, z.view(dtype)).isnan(), exact.bool())
