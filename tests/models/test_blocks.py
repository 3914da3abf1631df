"""The routine behind the block patterns: exact whatever the chunks, and really sub-quadratic."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from lra.models.bigbird import BigBird
from lra.models.local import Local
from lra.models.longformer import Longformer
from lra.models.parts import pattern, patterned
from lra.models.parts.chance import Chance, tell
from lra.models.parts.flex import TILE, flex_attend, flex_ready, tiles_of
from lra.models.parts.heads import MultiHead
from lra.models.parts.pattern import Part, all_keys, open_to_all, starts, within
from lra.models.parts.patterned import Patterned, attend
from lra.models.sparse import Sparse
from tests.bench.layers import step_peak_bytes, training_step
from tests.help.few import others_slow
from tests.help.paper import softmax_over

MIXERS: dict[str, Callable[..., Patterned]] = {
    "local": lambda *sizes, **more: Local(*sizes, block=16, neighbours=1, **more),
    "longformer": lambda *sizes, **more: Longformer(*sizes, window=32, dilation=[1, 2], global_tokens=2, **more),
    "bigbird": lambda *sizes, **more: BigBird(*sizes, block=16, **more),
    "strided": lambda *sizes, **more: Sparse(*sizes, pattern="strided", stride=16, **more),
    "fixed": lambda *sizes, **more: Sparse(*sizes, stride=16, summary=2, assign="heads", **more),
    "merged": lambda *sizes, **more: Sparse(*sizes, stride=16, summary=2, **more),
}


class DenseWindow(MultiHead):
    """What the models here must not be: a window as a mask of L x L."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        position = torch.arange(q.shape[2])
        seen = ((position[:, None] - position).abs() < 32) & mask[:, None, None]
        return (q @ k.mT / math.sqrt(self.head_dim)).masked_fill(~seen, -1e9).softmax(-1) @ v


def qkv(batch: int, heads: int, length: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Three (B, H, L, E), laid out as projections leave them."""
    return [torch.randn(batch, length, heads, width, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]


def random_part(length: int, heads: int) -> Part:
    """Random links with holes, two queries that are none, and some pairs hidden."""
    queries = torch.cat((torch.randperm(length), torch.tensor([-1, -1]))).view(-1, 2)
    keys = torch.rand(heads, len(queries), length).argsort(-1)[..., :5].masked_fill(torch.rand(5) < 0.3, -1)
    return Part(queries, keys, (0, heads), hidden=torch.rand(2, 5) < 0.2)


def matrix(parts: list[Part], heads: int, length: int) -> Tensor:
    """(H, L, L) bool, one pair at a time."""
    seen = torch.zeros(heads, length, length, dtype=torch.bool)
    for part in parts:
        for h in range(*part.heads):
            keys = part.keys[min(h - part.heads[0], len(part.keys) - 1)]
            for s, block in enumerate(part.queries.tolist()):
                for w, query in enumerate(block):
                    for m, key in enumerate(keys[s].tolist()):
                        if query >= 0 and key >= 0 and not (part.hidden is not None and part.hidden[w, m]):
                            seen[h, query, key] = True
    return seen


def test_any_lists_of_positions() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        length, heads = 10 + 2 * seed, 1 + seed % 3
        part = random_part(length, heads)
        mask = torch.rand(2, length) < 0.8
        x = qkv(2, heads, length, 4, torch.float64)
        y = attend(*x, mask, [part])
        exact = softmax_over(*x, matrix([part], heads, length) & mask[:, None, None])
        torch.testing.assert_close(y, exact)
        back = torch.randn_like(y)
        for ours, expected in zip(torch.autograd.grad(y, x, back), torch.autograd.grad(exact, x, back), strict=True):
            torch.testing.assert_close(ours, expected)


def test_joined_parts_are_one_softmax() -> None:
    torch.manual_seed(0)
    part = random_part(20, 2)
    hidden = part.hidden
    split = [
        replace(part, keys=part.keys[..., :2], hidden=hidden[:, :2]),
        replace(part, keys=part.keys[..., 2:], hidden=hidden[:, 2:], joins=True),
    ]
    x, mask = qkv(2, 2, 20, 4, torch.float64), torch.rand(2, 20) < 0.7
    whole, joined = attend(*x, mask, [part]), attend(*x, mask, split)
    torch.testing.assert_close(joined, whole)
    back = torch.randn_like(whole)
    for a, b in zip(torch.autograd.grad(joined, x, back), torch.autograd.grad(whole, x, back), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", MIXERS)
def test_chunks_do_not_matter(name, monkeypatch) -> None:
    torch.manual_seed(0)
    layer = MIXERS[name](16, 2, 100)
    leaf, mask = torch.randn(2, 100, 16, requires_grad=True), torch.arange(100) < torch.tensor([[100], [61]])
    results = []
    for at_once in (2**20, 1):
        monkeypatch.setitem(patterned.NUMBERS_AT_ONCE, "cpu", at_once)
        monkeypatch.setattr(pattern, "KEYS_AT_ONCE", at_once * 30)
        layer.patterns.clear()
        y = layer(leaf, mask)
        results.append((y, *torch.autograd.grad(y.square().sum(), (leaf, *layer.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


SHORT: dict[str, tuple[Callable[..., Patterned], int]] = {
    "local": (lambda **more: Local(16, 2, 100, block=16, neighbours=1, **more), 32),
    "longformer": (lambda **more: Longformer(16, 2, 100, window=64, global_tokens=2, **more), 35),
    "bigbird": (lambda **more: BigBird(16, 2, 100, block=16, random_blocks=0), 48),
    "strided": (lambda **more: Sparse(16, 2, 100, pattern="strided", stride=16), 17),
    "merged": (lambda **more: Sparse(16, 2, 100, stride=16, summary=2), 16),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_sees_everything_gets_full_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as the lists give, padding and dropped weights too, up to the length at which it stops."""
    make, longest = SHORT[name]
    torch.manual_seed(0)
    layer = make(dropout=0.3).double().train()
    x = torch.randn(2, longest + 1, 16, dtype=torch.float64)
    for length in (1, 7, longest, longest + 1):
        mask = torch.arange(length) < torch.tensor([[length], [max(1, length - 4)]])
        found, full = [], []
        for lists in (False, True):
            if lists:
                monkeypatch.setattr(patterned, "everything", lambda *_: None)
                monkeypatch.setattr(Part, "trimmed", lambda part: part)
                layer.patterns.clear()
            tell(layer, 0, length, torch.arange(2))
            leaf = x[:, :length].clone().requires_grad_()
            y = layer(leaf, mask)
            wanted = (leaf, *layer.parameters())
            found.append((y[mask], *torch.autograd.grad(y[mask].sin().sum(), wanted, materialize_grads=True)))
            full.append(layer.parts_on(length, x.device).first is not None)
        monkeypatch.undo()
        layer.patterns.clear()
        assert full == [length <= longest and (name != "longformer" or length > 2), False]
        for fast, slow in zip(*found, strict=True):
            torch.testing.assert_close(fast, slow)


def test_patterns_of_short_inputs_are_all_kept() -> None:
    """As parts of like length come in all lengths; long ones are not."""
    layer, cpu = Local(16, 2, 8192), torch.device("cpu")
    for length in range(1, 100):
        layer.parts_on(length, cpu)
    assert len(layer.patterns) == 99
    for length in range(8000, 8100):
        layer.parts_on(length, cpu)
    assert patterned.PATTERNS_KEPT[0] <= len(layer.patterns) < 40


def test_positions() -> None:
    assert within(torch.tensor([-2, 0, 4, 5]), 5).tolist() == [-1, 0, 4, -1]
    for length, width, step in ((1, 4, 1), (10, 4, 1), (23, 4, 3), (5, 2, 9)):
        covered = within(starts(length, width, step) + torch.arange(width) * step, length)
        assert sorted(covered[covered >= 0].tolist()) == list(range(length)), "each position in one tile"
    opened = open_to_all(Local(4, 2, 9, block=3).parts(9), 2, 9)
    seen = matrix(opened, 2, 9)
    assert seen[:, :2].all() and seen[:, :, :2].all() and not seen[:, 8, 2:6].any()
    assert torch.equal(
        matrix(all_keys(torch.tensor([1, 3]), 9, (0, 1)), 1, 9).any(2)[0].nonzero()[:, 0], torch.tensor([1, 3])
    )


@pytest.mark.parametrize("length", [6, 90])
@pytest.mark.parametrize("at_once", [2**20, 300])
def test_dropped_weights_are_those_of_queries_and_keys(
    length: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the lists, their order and the chunks: the weight of query i and key j goes by i and j."""
    monkeypatch.setitem(patterned.NUMBERS_AT_ONCE, "cpu", at_once)
    torch.manual_seed(length)
    part, mask = random_part(length, 2), torch.arange(length).expand(2, -1) < length - 1
    drops = Chance().drops((2, 2, length, length), 0.4, mask.device)
    x = [t.detach().contiguous().requires_grad_() for t in qkv(2, 2, length, 3, torch.float64)]
    seen = matrix([part], 2, length) & mask[:, None, None]
    scores = (x[0] @ x[1].mT / 3**0.5).masked_fill(~seen, -1e300)
    slow = (drops.of(scores.softmax(-1)) * seen) @ x[2]
    fast = attend(*x, mask, [part], drops)
    torch.testing.assert_close(fast, slow)
    back = torch.randn_like(slow)
    for a, b in zip(*(torch.autograd.grad(y, x, back) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = Local(16, 2, 64, dropout=0.25, block=32)
    x, mask = torch.randn(1, 64, 16), torch.ones(1, 64, dtype=torch.bool)
    exact = layer.eval()(x, mask)
    layer.train()
    assert not torch.equal(layer(x, mask), layer(x, mask))
    mean = torch.stack([layer(x, mask) for _ in range(100)]).mean(0)
    assert (mean - exact).norm() / exact.norm() < 0.2


def test_autocast_checkpoint_and_bf16_agree_with_float32() -> None:
    torch.manual_seed(0)
    layer = Longformer(32, 2, 100, window=16, dropout=0.1)
    leaf, mask = torch.randn(2, 100, 32, requires_grad=True), torch.arange(100).expand(2, -1) < 90
    results = []
    for how in ("plain", "checkpoint", "autocast"):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
            if how == "checkpoint":
                y = torch.utils.checkpoint.checkpoint(layer, leaf, mask, use_reentrant=False)
            else:
                y = layer(leaf, mask)
        results.append((y.float(), *torch.autograd.grad(y.float().square().sum(), leaf)))
    for exact, again, low in zip(*results, strict=True):
        assert torch.equal(exact, again)
        assert (exact - low).norm() / exact.norm() < 0.02


def saved_bytes(layer: nn.Module, length: int) -> int:
    """Bytes that autograd keeps after one forward pass, each storage counted once."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    held = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    x = torch.randn(1, length, 16, requires_grad=True)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x, torch.ones(1, length, dtype=torch.bool))
    del y
    return sum(size for pointer, size in storages.items() if pointer not in held)


def exponent(small: float, large: float, factor: float) -> float:
    return math.log(large / small) / math.log(factor)


@pytest.mark.parametrize("name", MIXERS)
def test_saved_bytes_are_linear(name) -> None:
    layer = MIXERS[name](16, 2, 2048)
    assert exponent(saved_bytes(layer, 512), saved_bytes(layer, 2048), 4) < 1.05


def test_a_dense_window_is_found_out() -> None:
    layer = DenseWindow(16, 2, 2048)
    assert exponent(saved_bytes(layer, 512), saved_bytes(layer, 2048), 4) > 1.5
    steps = [training_step(DenseWindow(256, 2, n), n, 1, "cpu", torch.float32, True) for n in (256, 1024)]
    assert exponent(*map(step_peak_bytes, steps), 4) > 1.5


@pytest.mark.parametrize("name", MIXERS)
def test_products_are_counted(name) -> None:
    """The FLOPs of a training step, as `lra` counts them, are those of the lists."""
    layer = MIXERS[name](16, 2, 256)
    parts = layer.parts(256)
    pairs = sum(p.queries.numel() * p.keys.shape[-1] * (p.heads[1] - p.heads[0]) for p in parts)
    q, k, v = (x.detach().to("meta").requires_grad_() for x in qkv(3, 2, 256, 8))
    mask = torch.ones(3, 256, dtype=torch.bool, device="meta")
    with FlopCounterMode(display=False) as counter:
        attend(q, k, v, mask, [p.to(torch.device("meta")) for p in parts]).sum().backward()
    # Two products forward; going back, the scores again and four more.
    assert counter.get_total_flops() == 7 * 2 * 3 * pairs * 8


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("name", others_slow(MIXERS, ("local", "bigbird")))
@pytest.mark.parametrize("length", [pytest.param(100, marks=pytest.mark.slow), 300])
def test_flex_agrees(name, length) -> None:
    """`flex_attention` uncompiled, which runs anywhere without gradients, and its tiles."""
    from torch.nn.attention.flex_attention import flex_attention

    torch.manual_seed(0)
    layer = MIXERS[name](32, 2, length)
    parts = layer.parts(length)
    rule = layer.rule(length)
    position = torch.arange(length)
    seen = rule(torch.arange(2)[:, None, None], position[:, None], position).expand(2, -1, -1)
    padded = F.pad(seen, (0, -length % TILE, 0, -length % TILE)).unflatten(1, (-1, TILE)).unflatten(3, (-1, TILE))
    assert torch.equal(tiles_of(parts, 2, length), padded.any(4).any(2))
    mask = torch.rand(2, length) < 0.8
    q, k, v = (x.detach() for x in qkv(2, 2, length, 16))

    def told(q: Tensor, k: Tensor, v: Tensor, block_mask) -> Tensor:
        # Uncompiled it does not skip tiles, so which ones it was told of is looked at here.
        assert torch.equal(block_mask.to_dense()[0].bool(), tiles_of(parts, 2, length))
        assert block_mask.BLOCK_SIZE == (TILE, TILE) and block_mask.seq_lengths == (length, length)
        return flex_attention(q, k, v, block_mask=block_mask)

    by_flex = flex_attend(q, k, v, mask, rule, parts, told)
    torch.testing.assert_close(by_flex, attend(q, k, v, mask, parts), rtol=1e-4, atol=1e-5)


def test_where_flex_is_taken() -> None:
    """On CUDA alone, without dropout, for heads of 16 or more; told of tensors that have no numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    for wanted, device, width, dtype, rate in (
        ("flex", "cuda", 16, torch.float32, 0.0),
        ("flex", "cuda", 16, torch.bfloat16, 0.0),
        ("blocks", "cuda", 15, torch.float32, 0.0),
        ("blocks", "cuda", 16, torch.float32, 0.1),
        ("blocks", "cuda", 16, torch.float64, 0.0),
        ("blocks", "cpu", 16, torch.float32, 0.0),
    ):
        place = torch.device(device)
        assert flex_ready(place, width, dtype, rate) == (wanted == "flex")
        layer = Local(width, 1, 64, dropout=rate).to(dtype)
        assert layer.path(place) == layer.path(place, dtype, rate) == wanted
        assert Local(width, 1, 64, backend="blocks").path(place) == "blocks"
        assert Local(width, 1, 64, backend="flex").path(place) == "flex"
    with FakeTensorMode():
        narrow = torch.empty(1, 20, 30, 15, device="cuda")
        with pytest.raises(ValueError, match="heads of width 16 or more, not cuda and 15"):
            flex_attend(narrow, narrow, narrow, torch.ones(1, 30, dtype=torch.bool), lambda *_: None, [])
    assert TILE == 128, "the block size of the kernel"


def test_flex_says_where_it_cannot_run() -> None:
    layer = Local(32, 2, 64, backend="flex")
    with pytest.raises(ValueError, match=r"model\.mixer\.backend: flex needs a CUDA device"):
        layer(torch.randn(1, 64, 32), torch.ones(1, 64, dtype=torch.bool))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_backends_agree(name, dtype) -> None:
    """Portable and compiled on CUDA against the portable code on the CPU, in float64."""
    torch.manual_seed(0)
    length = 700
    layer = MIXERS[name](64, 2, length).double()
    x, mask = torch.randn(2, length, 64, dtype=torch.float64), torch.arange(length) < torch.tensor([[length], [333]])
    back = torch.randn(2, length, 64, dtype=torch.float64) * mask[..., None]
    leaf = x.clone().requires_grad_()
    exact = layer(leaf, mask)
    expected = (exact, *torch.autograd.grad(exact, (leaf, *layer.parameters()), back))
    layer = layer.to("cuda", dtype)
    for backend in ("blocks", "flex"):
        layer.backend = backend
        leaf = x.to("cuda", dtype).requires_grad_()
        y = layer(leaf, mask.cuda())
        ours = (y, *torch.autograd.grad(y, (leaf, *layer.parameters()), back.to("cuda", dtype)))
        for mine, his in zip(ours, expected, strict=True):
            mine, his = mine.cpu().double(), his.detach()
            if mine.shape == (*mask.shape, 64):
                mine, his = mine[mask], his[mask]
            assert (mine - his).norm() / his.norm() < (2e-2 if dtype == torch.bfloat16 else 2e-3), backend


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "longformer", "bigbird", "strided", "fixed"])
def test_growth_of_a_training_step(name) -> None:
    """Time and step peak from 1,024 to 16,384, one layer of width 64, at the models' usual sizes."""
    lengths = (1024, 4096, 16384)
    layers = {
        "local": lambda n: Local(256, 4, n),
        "longformer": lambda n: Longformer(256, 4, n),
        "bigbird": lambda n: BigBird(256, 4, n),
        "strided": lambda n: Sparse(256, 4, n, pattern="strided"),
        "fixed": lambda n: Sparse(256, 4, n),
    }
    seconds, peaks = [], []
    for length in lengths:
        step = training_step(layers[name](length), length, 1, "cpu", torch.float32, True)
        step()
        took = []
        for _ in range(5):
            start = time.process_time()
            step()
            took.append(time.process_time() - start)
        seconds.append(min(took))
        peaks.append(step_peak_bytes(step))
    sparse = name in ("strided", "fixed")
    assert exponent(seconds[0], seconds[-1], 16) <= (1.6 if sparse else 1.15), seconds
    assert exponent(peaks[0], peaks[-1], 16) <= (1.6 if sparse else 1.10), peaks
