"""LSH attention against dense attention over the union of its chunks; reversible layers against plain ones."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lra.models.parts.tiles
from lra.models import reformer
from lra.models.reformer import LSHAttention, ReversibleStack, directions
from tests.help.compare import assert_mixer, distance
from tests.help.paper import assert_equation, fed, join, normed, projected, some_mask, under


def union(buckets: Tensor, mask: Tensor, chunk: int) -> Tensor:
    """(R, B, H, L), (B, L) -> bool (B, H, L, L): who sees whom, one sorted list at a time."""
    rounds, batch, heads, length = buckets.shape
    seen = torch.zeros(batch, heads, length, length, dtype=torch.bool)
    for r in range(rounds):
        for b in range(batch):
            for h in range(heads):
                real = [i for i in range(length) if mask[b, i]]
                ranked = sorted(real, key=lambda i: (int(buckets[r, b, h, i]), i))
                place = torch.full((length,), -(10**6))
                for rank, i in enumerate(ranked):
                    place[i] = rank // chunk
                back = place[:, None] - place
                seen[b, h] |= (back >= 0) & (back <= 1) & mask[b] & mask[b][:, None]
    eye = torch.eye(length, dtype=torch.bool)
    others = seen & ~eye
    return others | (eye & ~others.any(-1, keepdim=True))


def hashed(q: Tensor, mask: Tensor, rotations: Tensor, chunk: int) -> Tensor:
    """q (B, H, L, E) -> (R, B, H, L): section 2, h(x) = argmax [x R; -x R], twice for the two digits.

    With c directions a digit has 2 c values and the pair (2 c)^2, the fewest that make 2 n / chunk buckets for the
    n real tokens; no more directions than there are.
    """
    batch, heads, length, _ = q.shape
    out = torch.zeros(rotations.shape[2], batch, heads, length, dtype=torch.int64)
    for b in range(batch):
        count = int(mask[b].sum())
        c = min(next(c for c in range(1, length + 1) if (2 * c) ** 2 >= 2 * count / chunk), rotations.shape[-1])
        for h in range(heads):
            for r in range(len(out)):
                turned = [q[b, h] @ rotations[h, :, r, digit, :c].double() for digit in (0, 1)]
                first, second = (torch.cat((y, -y), -1).argmax(-1) for y in turned)
                out[r, b, h] = first * 2 * c + second
    return out


def dense(w: dict[str, Tensor], x: Tensor, mask: Tensor, layer: LSHAttention, buckets: Tensor | None = None) -> Tensor:
    """Kitaev et al. 2020, eq. 3 and appendix A: softmax over the union, shared and normalised keys.

    Without `buckets` they come from the queries.
    """
    q, _, v = projected(w, x, layer.heads, ("query", "query", "value"), layer.rotary)
    if buckets is None:
        buckets = hashed(q.detach(), mask, layer.rotations, layer.chunk)
    k = q / (q.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    logits = q @ k.mT * q.shape[-1] ** -0.5
    attention = logits.masked_fill(~union(buckets, mask, layer.chunk), -1e300).softmax(-1)
    return join(attention @ v) @ w["out.weight"].T


@example(seed=1, length=300, chunk=4, rounds=2, block=1 << 19)
@example(seed=2, length=200, chunk=2, rounds=3, block=1)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 60),
    chunk=st.sampled_from([1, 3, 8, 64]),
    rounds=st.integers(1, 4),
    block=st.sampled_from([1, 1 << 19]),
)
def test_equals_dense_attention_over_the_union(seed, length, chunk, rounds, block) -> None:
    torch.manual_seed(seed)
    layer = LSHAttention(15, 3, 60, qkv_dim=12, chunk=chunk, rounds=rounds, rotary=seed % 2 == 0)
    x, mask = torch.randn(2, length, 15) * 2, some_mask(2, length, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lra.models.parts.tiles, "CPU_BLOCK", block)  # 1: blocks of 16 chunks
        assert_equation(layer, partial(dense, layer=layer), x, mask, single=None)
        # In float32 a border case could be hashed otherwise, so there with the buckets given.
        q = projected({n: p.double() for n, p in layer.named_parameters()}, x.double(), 3, ("query",) * 3, layer.rotary)
        buckets = hashed(q[0], mask, layer.rotations, chunk)
        layer.hash = lambda *_: buckets
        assert_equation(layer, partial(dense, layer=layer, buckets=buckets), x, mask)


def test_as_many_buckets_as_the_real_tokens_make() -> None:
    """Every count, those included at which a direction is added."""
    torch.manual_seed(0)
    mask = torch.arange(80) < torch.arange(1, 81)[:, None]
    q = torch.randn(80, 80, 2, 4, dtype=torch.float64)
    for chunk in (1, 4):
        layer = LSHAttention(8, 2, 80, chunk=chunk, rounds=2)
        expected, found = hashed(q.transpose(1, 2), mask, layer.rotations, chunk), layer.hash(q, mask)
        for row in range(80):  # numbered as in the longest row, but ordered the same
            for ours, exact in zip(found[:, row].flatten(0, 1), expected[:, row].flatten(0, 1), strict=True):
                ours, exact = (t[: row + 1].unique(return_inverse=True)[1] for t in (ours, exact))
                assert torch.equal(ours, exact), f"{row + 1} tokens in chunks of {chunk}"
        assert torch.equal(layer.hash(q[-1:], None), expected[:, -1:])


def test_rotations_by_their_law() -> None:
    """Standard normal, every number by itself: heads, rounds and the two digits have rotations of their own."""
    torch.manual_seed(0)
    layer = LSHAttention(32, 2, 512, chunk=8, rounds=3)
    assert layer.rotations.shape == (2, 16, 3, 2, directions(512, 8)) and directions(512, 8) == 6
    numbers = torch.stack([LSHAttention(32, 2, 512, chunk=8, rounds=3).rotations for _ in range(20)])
    count = numbers.numel()
    assert abs(numbers.mean()) < 4 / count**0.5 and abs(numbers.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs(numbers.abs().mean() - (2 / torch.pi) ** 0.5) < 4 * 0.61 / count**0.5
    for axis in range(numbers.dim()):
        first, second = numbers.select(axis, 0), numbers.select(axis, 1)
        assert abs((first * second).mean()) < 4.5 / first.numel() ** 0.5, f"axis {axis} repeats itself"


def test_keeps_the_contract() -> None:
    assert_mixer(LSHAttention)  # one chunk: bf16 cannot move a token to another
    for options in ({"rotary": True}, {"chunk": 8, "rounds": 4}):
        assert_mixer(lambda options=options, **facts: LSHAttention(**facts, **options), bf16=2.0)


def test_more_rounds_approach_full_attention() -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(2, 64, 16), torch.ones(2, 64, dtype=torch.bool)

    def error(rounds: int) -> float:
        torch.manual_seed(1)
        layer = LSHAttention(16, 2, 64, chunk=8, rounds=rounds)
        full = LSHAttention(16, 2, 64, chunk=64, rounds=1)
        full.load_state_dict({**full.state_dict(), **{n: p for n, p in layer.state_dict().items() if "weight" in n}})
        return distance(layer(x, mask), full(x, mask))

    errors = [error(r) for r in (1, 8, 64)]
    assert errors[0] > 2 * errors[1] > 8 * errors[2], errors
    assert errors[2] < 0.02


def test_near_vectors_share_buckets() -> None:
    torch.manual_seed(0)
    layer = LSHAttention(32, 2, 512, chunk=16, rounds=8)
    q = torch.randn(1, 512, 2, 16)
    near, far = q + 0.1 * torch.randn_like(q), torch.randn_like(q)
    buckets = layer.hash(q, None)
    assert buckets.max() < 4 * directions(512, 16) ** 2 <= 4 * 512 / 16
    assert (buckets == layer.hash(near, None)).float().mean() > 0.7
    assert (buckets == layer.hash(far, None)).float().mean() < 0.05


def test_buckets_follow_from_the_real_tokens_alone() -> None:
    torch.manual_seed(0)
    layer = LSHAttention(16, 2, 256, chunk=4, rounds=2)
    q, mask = torch.randn(1, 256, 2, 8), torch.arange(256)[None] < 40
    alone = layer.hash(q[:, :40], None)
    long = layer.hash(q, mask)[..., :40]
    # Numbered differently, but ordered the same.
    assert torch.equal(alone.argsort(dim=-1, stable=True), long.argsort(dim=-1, stable=True))
    assert torch.equal(alone[..., :1] == alone, long[..., :1] == long)


def build_stack(depth: int, dropout: float = 0.0, chunks: int = 1, seed: int = 0, **options) -> ReversibleStack:
    torch.manual_seed(seed)
    stack = ReversibleStack(
        lambda layer, shared: LSHAttention(16, 2, 40, chunk=8, rounds=2, **options), depth, 16, 24, dropout, chunks
    )
    for parameter in stack.parameters():  # not to start where norms and biases do nothing
        parameter.data += 0.1 * torch.randn_like(parameter)
    return stack


def reversible(w: dict[str, Tensor], x: Tensor, mask: Tensor, stack: ReversibleStack) -> Tensor:
    """Section 3: y1 = x1 + Attention(x2), y2 = x2 + FeedForward(y1), on the grid of 2^-30 of the module's docstring."""

    def gridded(f: Tensor) -> Tensor:
        return f + ((f * 2**30).round() / 2**30 - f).detach()

    x1 = x2 = gridded(x)
    for n, layer in enumerate(stack.layers):
        own = under(w, f"layers.{n}")
        x1 = x1 + gridded(dense(under(own, "mixer"), normed(own, "mixer_norm", x2), mask, layer.mixer))
        x2 = x2 + gridded(fed(own, "mlp", normed(own, "mlp_norm", x1)))
    return normed(w, "norm", (x1 + x2) / 2)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stack_equals_the_equations(seed: int, chunks: int) -> None:
    stack = build_stack(3, chunks=chunks, seed=seed)
    x, mask = torch.randn(2, 40, 16), some_mask(2, 40, seed)
    # Within 1e-10: a number on the border of two points of the grid may go to the other.
    assert_equation(stack, partial(reversible, stack=stack), x, mask, double=1e-10, single=None)
    with torch.no_grad():
        exact = reversible({n: p.double() for n, p in stack.named_parameters()}, x.double(), mask, stack)
        assert distance(stack.double()(x.double(), mask)[mask], exact[mask]) < 1e-10


@pytest.mark.parametrize(("dropout", "chunks"), [(0.0, 1), (0.3, 1), (0.3, 3)])
def test_recomputed_gradients_equal_the_plain_ones(dropout, chunks) -> None:
    stack = build_stack(4, dropout, chunks)
    x, mask = torch.randn(3, 40, 16), torch.arange(40) < torch.tensor([[40], [23], [1]])
    back = torch.randn(3, 40, 16)
    setting = reformer._Setting(x)
    results = []
    for recomputed in (True, False):
        leaf = x.clone().requires_grad_()
        parameters = list(stack.layers.parameters())
        if recomputed:
            y = reformer._Recomputed.apply(leaf, mask, stack, setting, *parameters)
        else:
            y = stack.run(leaf, mask, setting)
        results.append([y, *torch.autograd.grad(y, (leaf, *parameters), back)])
    assert torch.equal(results[0][0], results[1][0])
    for ours, plain in zip(*results, strict=True):
        assert distance(ours, plain) < 1e-5


def test_dropout_of_the_mixer_by_its_law() -> None:
    """Number by number at the rate, before it is added to its stream, and not in eval()."""

    class Ones(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return torch.ones_like(x)

    torch.manual_seed(0)
    stack = ReversibleStack(lambda layer, shared: Ones(), 1, 50, 8, 0.3)
    stack.norm = nn.Identity()
    x, mask = torch.zeros(40, 10, 50), torch.ones(40, 10, dtype=torch.bool)
    with torch.no_grad():
        stack.layers[0].mlp.outer.weight.zero_()
    # The other stream adds nothing, and the mean of the two halves what is left.
    for y in (stack(x, mask).detach(), stack(x.requires_grad_(), mask).detach()):
        kept = (y * 2 * 0.7).round(decimals=5)
        assert set(kept.unique().tolist()) == {0.0, 1.0}
        for axes in ((0, 1, 2), (0, 1), (0, 2), (1, 2)):
            share = kept.mean(axes)
            each = kept.numel() / share.numel()
            assert ((share - 0.7).abs() < 5 * (0.21 / each) ** 0.5).all(), axes
    assert torch.equal(stack.eval()(x, mask), torch.full_like(x, 0.5))


def test_layers_see_their_very_input_again() -> None:
    stack = build_stack(6, dropout=0.2)
    seen: list[Tensor] = []
    for layer in stack.layers:
        layer.mixer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    stack(torch.randn(2, 40, 16), torch.ones(2, 40, dtype=torch.bool)).square().sum().backward()
    forward, again = seen[:6], seen[6:][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, again, strict=True))


def saved_bytes(stack: ReversibleStack) -> int:
    held = {}

    def pack(x: Tensor) -> Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    parameters = {p.untyped_storage().data_ptr() for p in stack.parameters()}
    x = torch.randn(2, 40, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        stack(x, torch.ones(2, 40, dtype=torch.bool))
    return sum(size for pointer, size in held.items() if pointer not in parameters)


def test_memory_does_not_grow_with_depth() -> None:
    assert saved_bytes(build_stack(8, dropout=0.1)) == saved_bytes(build_stack(2, dropout=0.1))


def test_gradients_arrive_as_ever_and_global_randomness_goes_on() -> None:
    stack, mask = build_stack(2, dropout=0.1), torch.ones(2, 40, dtype=torch.bool)
    x = torch.randn(2, 40, 16)
    torch.manual_seed(3)
    first = stack(x, mask)
    assert not torch.equal(first, stack(x, mask)), "dropout must differ from call to call"
    torch.manual_seed(3)
    again = stack(x, mask)
    assert torch.equal(first, again)
    again.sum().backward(retain_graph=True)
    once = [p.grad.clone() for p in stack.parameters()]
    again.sum().backward()
    for parameter, g in zip(stack.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * g)
    stack.eval()
    assert torch.equal(stack(x, mask), stack(x, mask))
    with torch.no_grad():
        torch.testing.assert_close(stack(x, mask), stack(x, mask))


def test_stack_in_bf16_autocast_and_on_meta() -> None:
    x, mask = torch.randn(2, 40, 16), torch.arange(40) < torch.tensor([[40], [23]])
    exact = build_stack(2)(x, mask)
    narrow = build_stack(2).bfloat16()
    y = narrow(x.bfloat16(), mask)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in narrow.parameters())
    stack = build_stack(2)
    with torch.autocast("cpu", torch.bfloat16):
        y = stack(x, mask)
    y.float().square().sum().backward()
    assert distance(y, exact) < 0.2
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())
    meta = build_stack(2).to("meta")
    meta(x.to("meta"), mask.to("meta")).sum().backward()


def test_rotations_are_drawn_anew_after_the_backward_pass_only() -> None:
    stack = build_stack(2, redraw=2)
    before = [layer.mixer.rotations.clone() for layer in stack.layers]
    for step in (1, 2):
        stack(torch.randn(2, 40, 16), torch.ones(2, 40, dtype=torch.bool)).sum().backward()
        for layer, old in zip(stack.layers, before, strict=True):
            assert int(layer.mixer.steps) == step
            assert torch.equal(layer.mixer.rotations, old) == (step < 2)


def test_says_which_option_is_wrong() -> None:
    for options in ({"chunk": 0}, {"rounds": 0}, {"redraw": -1}):
        with pytest.raises(ValueError, match=rf"^model\.mixer\.{next(iter(options))}: "):
            LSHAttention(16, 2, 8, **options)
    with pytest.raises(ValueError, match=r"^model\.stack\.feed_forward_chunks: 0 "):
        build_stack(1, chunks=0)
