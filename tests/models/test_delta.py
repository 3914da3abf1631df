"""The delta rule by chunks against its recurrence."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import lra.models.parts.tiles
from lra.check.subject import difference
from lra.models.parts.decay import decay_attention
from lra.models.parts.delta import delta_rule
from tests.help.recurrence import LENGTHS, assert_as_without_autocast, assert_core, corrected, found, kept, masks

E, P, H = 4, 5, 3


def inputs(length: int, seed: int, kind: str = "mixed") -> list[Tensor]:
    """q, k of length 1, v, log decays, betas up to 2: of the five rows all but the first have padding."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(5, length, H, E, generator=generator) for _ in range(2))
    k = k / k.norm(dim=-1, keepdim=True)
    v = torch.randn(5, length, H, P, generator=generator)
    a = -torch.rand(5, length, H, generator=generator)
    b = 2 * torch.rand(5, length, H, generator=generator)
    if kind == "mixed":
        a = a * torch.tensor([1e-2, 1.0, 5.0])
    elif kind == "extreme":
        # Betas as of gates at -30 and 30, decays of -80 and -1e-6 at will, and of a rate of 16 and a step up to 1.
        a[..., :2] = torch.where(a[..., :2] < -0.7, -80.0, -1e-6)
        a[..., 2] *= 16
        b[..., :2] = torch.where(b[..., :2] < 1, 2 * torch.sigmoid(torch.tensor(-30.0)), 2.0)
    gone = ~masks(length, seed)[..., None]
    return [q, k, v, a.masked_fill(gone, 0), b.masked_fill(gone, 0)]


@pytest.mark.parametrize("kind", ["mixed", "extreme"])
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_the_recurrence(reverse: bool, kind: str) -> None:
    for seed, length in enumerate(LENGTHS):
        fast, slow = partial(delta_rule, reverse=reverse), partial(corrected, reverse=reverse)
        assert_core(fast, slow, inputs(length, seed, kind))


@pytest.mark.parametrize("reverse", [False, True])
def test_many_parts_equal_one(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 1)
    assert_core(partial(delta_rule, reverse=reverse), partial(corrected, reverse=reverse), inputs(197, 1))


def test_keys_that_do_not_meet_are_summed() -> None:
    """Where keys are orthogonal nothing is ever taken away: attention with a decay, its gain beta."""
    q, _, v, a, b = (x.double() for x in inputs(4, 0))
    k = torch.eye(4, dtype=torch.float64).expand(5, H, 4, 4).transpose(1, 2)
    torch.testing.assert_close(delta_rule(q, k, v, a, b), decay_attention(q, k, v, a, b))


def test_a_value_written_again_replaces_the_first() -> None:
    """With beta 1 and no decay, what is read under a key is what was written there last."""
    k = torch.tensor([1.0, 0, 0, 0]).expand(1, 70, 1, 4).double()
    v = torch.randn(1, 70, 1, 5).double()
    y = delta_rule(k, k, v, torch.zeros(1, 70, 1).double(), torch.ones(1, 70, 1).double())
    torch.testing.assert_close(y, v)


@pytest.mark.parametrize("kind", [pytest.param("mixed", marks=pytest.mark.slow), "extreme"])
def test_float32_stays_near_float64_over_16384_positions(kind: str) -> None:
    given = [x[:1] for x in inputs(16_384, 5, kind)]
    for x, y in zip(found(delta_rule, given, torch.float32), found(delta_rule, given, torch.float64), strict=True):
        assert difference(x.double(), y) < 1e-5


def test_what_is_kept_for_the_backward_pass() -> None:
    """The inputs and the states between chunks, nothing else: counted in numbers."""
    given = [x.requires_grad_() for x in inputs(197, 0)]
    assert kept(lambda: delta_rule(*given)) == sum(x.numel() for x in given) + 5 * H * 4 * E * P


def test_narrow_numbers_are_widened() -> None:
    given = inputs(197, 6)
    narrow = [x.bfloat16() for x in given[:3]] + given[3:]
    with torch.autocast("cpu", torch.bfloat16):
        y = delta_rule(*narrow)
    assert y.dtype == torch.bfloat16
    assert difference(y.double(), corrected(*(x.double() for x in narrow))) < 2**-8
    assert_as_without_autocast(delta_rule, given)
