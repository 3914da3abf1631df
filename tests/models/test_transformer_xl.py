"""Transformer-XL against the loop of the paper: segments outside, layers inside, detached caches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models import transformer_xl
from lra.models.classifier import Classifier
from lra.models.parts.factory import build
from lra.models.stack import ResidualStack
from lra.models.transformer_xl import RelativeAttention
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_normal, assert_xavier, fed, join, normed, split, under, wake

DIM, QKV, HEADS = 12, 8, 2


def sinusoids(distance: Tensor) -> Tensor:
    """R (N, D) of signed distances (N,): sines, then cosines, of d 10000^(-2i/D)."""
    angles = [distance.double() / 10_000 ** (2 * i / DIM) for i in range(DIM // 2)]
    return torch.stack([a.sin() for a in angles] + [a.cos() for a in angles], -1)


def attend(w: dict[str, Tensor], x: Tensor, cache: Tensor, mask: Tensor) -> Tensor:
    """One segment x (B, n, D) with its cache (B, m, D), mask (B, m + n): every R_(i-j) written out.

    Section 3.3: A_ij = q_i k_j + q_i W_kR R_(i-j) + u k_j + v W_kR R_(i-j), over the root of the head's width.
    """
    seen = torch.cat((cache, x), 1)
    q, k, v = (split(t @ w[f"{n}.weight"].T, HEADS) for n, t in (("query", x), ("key", seen), ("value", seen)))
    i = torch.arange(x.shape[1])[:, None] + cache.shape[1]
    r = sinusoids((i - torch.arange(seen.shape[1])).flatten()) @ w["position.weight"].T
    r = r.view(x.shape[1], seen.shape[1], HEADS, -1)
    content, position = w["content_bias"][:, 0], w["position_bias"][:, 0]  # u and v
    score = torch.einsum("bhie,bhje->bhij", q, k) + torch.einsum("bhie,ijhe->bhij", q, r)
    score = score + torch.einsum("he,bhje->bhj", content, k)[:, :, None] + torch.einsum("he,ijhe->hij", position, r)
    score = (score / (QKV / HEADS) ** 0.5).masked_fill(~mask[:, None, None], -1e300)
    return join(score.softmax(-1) @ v) @ w["out.weight"].T


def segmented(w: dict[str, Tensor], x: Tensor, mask: Tensor, depth: int, segment: int, memory: int) -> Tensor:
    """The stack as the paper runs it, memory growing from nothing to its full length."""
    layers = [under(w, f"layers.{n}") for n in range(depth)]
    caches = [x[:, :0] for _ in layers]
    done, out = 0, []
    for h in x.split(segment, 1):
        for n, own in enumerate(layers):
            y = normed(own, "mixer_norm", h)
            seen = mask[:, done - caches[n].shape[1] : done + h.shape[1]]
            h = h + attend(under(own, "mixer"), y, caches[n], seen)
            h = h + fed(own, "mlp", normed(own, "mlp_norm", h))
            kept = torch.cat((caches[n], y.detach()), 1)
            caches[n] = kept[:, max(kept.shape[1] - memory, 0) :]
        out.append(normed(w, "norm", h))
        done += h.shape[1]
    return torch.cat(out, 1)


def mixed(w: dict[str, Tensor], x: Tensor, mask: Tensor, segment: int, memory: int) -> Tensor:
    """One mixer by itself."""
    out = []
    for start in range(0, x.shape[1], segment):
        first, end = max(start - memory, 0), start + segment
        out.append(attend(w, x[:, start:end], x[:, first:start].detach(), mask[:, first:end]))
    return torch.cat(out, 1)


def make(depth: int, **options) -> ResidualStack:
    torch.manual_seed(0)
    mixer = partial(build, partial(RelativeAttention, **options), dim=DIM, qkv_dim=QKV, heads=HEADS, max_len=64)
    return ResidualStack(mixer, depth, DIM, 16)


def batch(length: int, reals: list[int]) -> tuple[Tensor, Tensor]:
    x = torch.randn(len(reals), length, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    return x, torch.arange(length) < torch.tensor(reals)[:, None]


lengths = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), min_size=1, max_size=3))
)


@contextmanager
def small_blocks(rows: int, elements: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer_xl, "ROWS", rows)
        patch.setitem(transformer_xl.ELEMENTS, "cpu", elements)
        yield


@settings(max_examples=12, deadline=None)
@given(lengths, st.integers(1, 3), st.integers(1, 14), st.integers(0, 30), st.sampled_from([1, 3, 128]))
def test_stack_equals_the_recurrence_of_the_paper(shape, depth: int, segment: int, memory: int, rows: int) -> None:
    stack, (x, mask) = make(depth, segment=segment, memory=memory), batch(*shape)
    wake(stack)
    with small_blocks(rows, 2**20):
        slow = partial(segmented, depth=depth, segment=segment, memory=memory)
        assert_equation(stack, slow, x, mask, double=1e-10, single=None)


@settings(max_examples=12, deadline=None)
@given(lengths, st.integers(1, 14), st.integers(0, 30), st.sampled_from([1, 3, 128]), st.sampled_from([1, 2**20]))
def test_mixer_in_float32(shape, segment: int, memory: int, rows: int, elements: int) -> None:
    layer, (x, mask) = make(1, segment=segment, memory=memory).layers[0].mixer, batch(*shape)
    with small_blocks(rows, elements):
        assert_equation(layer, partial(mixed, segment=segment, memory=memory), x.float(), mask)


def test_blocks_of_full_size_equal_the_recurrence() -> None:
    stack, (x, mask) = make(2, segment=150, memory=260), batch(437, [437, 160])
    wake(stack)
    assert_equation(stack, partial(segmented, depth=2, segment=150, memory=260), x, mask, double=1e-10, single=None)


def test_gradient_stops_at_the_segment_but_states_do_not() -> None:
    stack = make(depth=1, segment=4, memory=4).double()
    x = torch.randn(1, 12, DIM, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 12, dtype=torch.bool)
    stack(x, mask)[0, 5, 0].backward()
    assert (x.grad[0].abs().sum(-1) > 0).tolist() == [4 <= i < 8 for i in range(12)]
    for i in range(12):
        moved = x.detach().clone()
        moved[0, i, 0] += 1
        assert bool((stack(moved, mask)[0, 5] != stack(x, mask)[0, 5]).any()) == (i < 8)


def test_memory_reaches_further_with_depth() -> None:
    """Section 3.2: the longest dependency grows with layers times memory."""
    stack = make(depth=3, segment=4, memory=4).double()
    x, mask = torch.randn(1, 24, DIM, dtype=torch.float64), torch.ones(1, 24, dtype=torch.bool)
    last = stack(x, mask)[0, -1]
    changes = []
    for i in range(24):
        moved = x.clone()
        moved[0, i, 0] += 1
        changes.append(bool((stack(moved, mask)[0, -1] != last).any()))
    assert changes == [i >= 24 - 4 * (3 + 1) for i in range(24)]


def test_biases_are_one_for_all_layers() -> None:
    model = Classifier(9, 2, 32, RelativeAttention, ResidualStack, 3, DIM, HEADS, 16, position="none")
    first, *others = (layer.mixer for layer in model.stack.layers)
    assert all(m.content_bias is first.content_bias and m.position_bias is first.position_bias for m in others)
    assert all(m.position is not first.position for m in others)


def test_dropout_is_the_same_in_both_passes() -> None:
    """With its weights held, the layer is a function: finite differences must give its gradient."""
    stack = make(depth=1, segment=6, memory=6, dropout=0.4).double().train()
    x, mask = torch.randn(2, 15, DIM, dtype=torch.float64), torch.arange(15) < torch.tensor([[15], [8]])

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return (stack.layers[0].mixer(x, mask) * mask[..., None]).sin().sum()

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(run(x), x)
    step = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    # Within one segment only: the gradient stops at the memory, the difference does not.
    step[:, :12] = 0
    difference = (run(x + 1e-6 * step) - run(x - 1e-6 * step)) / 2e-6
    assert abs((gradient * step).sum().item() / difference.item() - 1) < 1e-6
    assert run(x) != (torch.manual_seed(3), stack.layers[0].mixer(x, mask))[1].mul(mask[..., None]).sin().sum()


def test_where_it_starts() -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(96, 32, 8, qkv_dim=1024)
    assert_xavier(layer.position.weight, 96, 1024)
    assert_normal(layer.content_bias, 0.02)
    assert_normal(layer.position_bias, 0.02)


def test_contract() -> None:
    for segment, memory in ((16, 16), (8, 20), (64, 0)):
        assert_mixer(partial(RelativeAttention, segment=segment, memory=memory))


@pytest.mark.parametrize("field", ["segment", "memory"])
def test_a_negative_length_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"model.mixer.{field}: -1"):
        RelativeAttention(DIM, HEADS, 8, **{field: -1})


def test_rotary_is_refused() -> None:
    with pytest.raises(ValueError, match="model.position: rotary"):
        Classifier(9, 2, 32, RelativeAttention, ResidualStack, 1, DIM, HEADS, 16, position="rotary")


def test_distances_are_projected_without_a_bias() -> None:
    """W_{k,R} R of eq. 3: what does not depend on the distance is u's and v's to say."""
    layer = RelativeAttention(dim=8, heads=2, max_len=16)
    assert layer.position.bias is None and not [name for name in layer.state_dict() if name.endswith("position.bias")]
