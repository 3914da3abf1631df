"""Attention with a decay, by chunks, against its recurrence."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import lra.models.parts.tiles
from lra.check.subject import difference
from lra.models.parts.chunks import Chunks
from lra.models.parts.decay import channel_decay_attention, decay_attention, two_sided_decay_attention
from tests.help.recurrence import LENGTHS, assert_as_without_autocast, assert_core, found, kept, masks, remembered

E, P, H = 4, 5, 3


def inputs(length: int, seed: int, kind: str = "mixed", channels: bool = False, heads: int = H) -> list[Tensor]:
    """q, k, v, log decays, gains: of the five rows all but the first have padding."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(5, length, heads, E, generator=generator) for _ in range(2))
    v = torch.randn(5, length, H, P, generator=generator)
    a = -torch.rand(5, length, H, E if channels else 1, generator=generator)
    if kind == "mixed":
        a = a * torch.tensor([1e-2, 1.0, 5.0])[:, None]
    elif kind == "extreme":
        # At will -80 and -1e-6, and the product of a rate of 16 and a step up to 1.
        a[..., 0, :] = torch.where(a[..., 0, :] < -0.5, -80.0, -1e-6)
        a[..., 1, :] = torch.where(a[..., 1, :] < -0.9, -80.0, -1e-6)
        a[..., 2, :] *= 16
    gone = ~masks(length, seed)[..., None]
    a = a.masked_fill(gone[..., None], 0)
    b = (torch.rand(5, length, H, generator=generator) * 2).masked_fill(gone, 0)
    return [q, k, v, a if channels else a.squeeze(-1), b]


@pytest.mark.parametrize("kind", ["mixed", "extreme"])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_the_recurrence(reverse: bool, diagonal: bool, kind: str) -> None:
    options = {"reverse": reverse, "diagonal": diagonal}
    for seed, length in enumerate(LENGTHS):
        given = inputs(length, seed, kind)
        assert_core(partial(decay_attention, **options), partial(remembered, **options), given)


@pytest.mark.parametrize("reverse", [False, True])
def test_many_parts_equal_one(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 1)
    for seed, length in enumerate((65, 197)):
        given = inputs(length, seed)
        assert_core(partial(decay_attention, reverse=reverse), partial(remembered, reverse=reverse), given)
        *given, _ = inputs(length, seed, channels=True)
        slow = partial(channels, reverse=reverse)
        assert_core(partial(channel_decay_attention, reverse=reverse), slow, given)


@pytest.mark.parametrize("reverse", [False, True])
def test_queries_and_keys_of_all_heads(reverse: bool) -> None:
    """One q and k for all heads are as many copies, and their gradients the sum of those of the copies."""
    given = inputs(130, 3, heads=1)
    assert_core(partial(decay_attention, reverse=reverse), partial(remembered, reverse=reverse), given)


def channels(q: Tensor, k: Tensor, v: Tensor, a: Tensor, reverse: bool) -> Tensor:
    return remembered(q, k, v, a, torch.ones_like(q[..., 0]), reverse)


@pytest.mark.parametrize("kind", ["mixed", "extreme"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_decay_for_each_channel_equals_the_recurrence(reverse: bool, kind: str) -> None:
    for seed, length in enumerate(LENGTHS):
        *given, _ = inputs(length, seed, kind, channels=True)
        assert_core(partial(channel_decay_attention, reverse=reverse), partial(channels, reverse=reverse), given)


def dense(q: Tensor, k: Tensor, v: Tensor, before: Tensor, after: Tensor, b: Tensor) -> Tensor:
    """All L x L weights, as in the docstring of `two_sided_decay_attention`."""
    length = q.shape[1]
    weights = q.new_zeros(len(q), H, length, length)
    for i in range(length):
        for j in range(length):
            between = before[:, j + 1 : i + 1].sum(1) if j < i else after[:, i:j].sum(1)
            weights[:, :, i, j] = between.exp() * b[:, j]
    return torch.einsum("bhij,bihe,bjhe,bjhp->bihp", weights, q, k, v)


@pytest.mark.parametrize("length", [1, 2, 33])
def test_two_sides_equal_the_dense_weights(length: int) -> None:
    q, k, v, before, b = inputs(length, 1)
    assert_core(two_sided_decay_attention, dense, [q, k, v, before, inputs(length, 2)[3], b])


def test_symmetric_weights() -> None:
    """With g_t = f_{t+1} both sides have one decay between two positions: turned round, the answer is turned round."""
    q, k, v, f, b = (x.double() for x in inputs(150, 4))
    g = torch.cat((f[:, 1:], torch.zeros_like(f[:, :1])), 1)
    y = two_sided_decay_attention(q, k, v, f, g, b)
    total = f.cumsum(1)
    weights = (-(total[:, :, None] - total[:, None]).abs()).exp() * b[:, None]
    torch.testing.assert_close(y, torch.einsum("bijh,bihe,bjhe,bjhp->bihp", weights, q, k, v))


@pytest.mark.parametrize("kind", [pytest.param("mixed", marks=pytest.mark.slow), "extreme"])
def test_float32_stays_near_float64_over_16384_positions(kind: str) -> None:
    for channel, core in enumerate((decay_attention, channel_decay_attention)):
        given = [x[:1] for x in inputs(16_384, 5, kind, channels=bool(channel))][: 5 - channel]
        for x, y in zip(found(core, given, torch.float32), found(core, given, torch.float64), strict=True):
            assert difference(x.double(), y) < 1e-5


@pytest.mark.parametrize("channel", [False, True])
def test_what_is_kept_for_the_backward_pass(channel: bool) -> None:
    """The inputs and the states between chunks, nothing else: counted in numbers."""
    given = [x.requires_grad_() for x in inputs(197, 0, channels=channel)][: 5 - channel]
    core = channel_decay_attention if channel else decay_attention
    assert kept(lambda: core(*given)) == sum(x.numel() for x in given) + 5 * H * 4 * E * P


def test_narrow_numbers_are_widened() -> None:
    """bf16 in, bf16 out, float32 inside: as near to the exact answer as the rounding of what went in and out."""
    given = inputs(197, 6)
    narrow = [x.bfloat16() for x in given[:3]] + given[3:]
    with torch.autocast("cpu", torch.bfloat16):
        y = decay_attention(*narrow)
    assert y.dtype == torch.bfloat16
    exact = remembered(*(x.double() for x in narrow))
    assert difference(y.double(), exact) < 2**-8
    assert_as_without_autocast(decay_attention, given)
    assert_as_without_autocast(channel_decay_attention, inputs(197, 6, channels=True)[:4])


@pytest.mark.parametrize("reverse", [False, True])
def test_how_chunks_are_cut(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 2 * 3 * 4 * 7 * 5)
    cut = Chunks(2, 30, 3, 4, reverse)
    x, seen = torch.arange(2 * 30 * 3.0).reshape(2, 30, 3), torch.full((2, 30, 3), -1.0)
    sizes = []
    for part in cut.parts(7, x.device):
        taken = cut.take(x, part)
        assert taken.shape == (6, part.count, 4)
        sizes.append(part.count)
        cut.put(seen, part, taken)
    assert sizes == [5, 3] and torch.equal(seen, x)
    rows = x.flip(1) if reverse else x
    first = cut.take(x, cut.parts(7, x.device)[0])
    assert torch.equal(first[1].flatten(), rows[0, :20, 1]) and torch.equal(first[3].flatten(), rows[1, :20, 0])
    last = cut.take(x, cut.parts(7, x.device)[1])
    assert torch.equal(last[2].flatten(), torch.cat((rows[0, 20:, 2], torch.zeros(2))))
