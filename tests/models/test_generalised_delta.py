"""The generalised delta rule by chunks against its recurrence."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import lra.models.parts.tiles
from lra.check.subject import difference
from lra.models.parts.delta import delta_rule
from lra.models.parts.generalised_delta import LEAST, generalised_delta_rule
from tests.help.recurrence import LENGTHS, assert_as_without_autocast, assert_core, found, kept, masks, rewritten

E, P, H = 4, 5, 3


def inputs(length: int, seed: int, kind: str = "mixed") -> list[Tensor]:
    """q, log decays, k, v, z of length 1 and b = -r z: of the five rows all but the first have padding."""
    generator = torch.Generator().manual_seed(seed)
    q, k, z, rate, a = (torch.randn(5, length, H, E, generator=generator) for _ in range(5))
    v = torch.randn(5, length, H, P, generator=generator)
    z, rate, a = z / z.norm(dim=-1, keepdim=True), rate.sigmoid(), LEAST * a.sigmoid()
    if kind == "extreme":
        # Channels that fade as fast as they can for whole chunks, hardly at all, or by turns; nothing or all erased.
        a[..., 0], a[..., 1] = LEAST, -1e-6
        a[..., 2] = torch.where(a[..., 2] < LEAST / 2, LEAST, 0.0)
        rate = torch.where(rate < 0.5, torch.sigmoid(torch.tensor(-30.0)), 1.0)
    gone = ~masks(length, seed)[..., None, None]
    a, k, b = (x.masked_fill(gone, 0) for x in (a, k, -rate * z))
    return [q, a, k, v, z, b]


@pytest.mark.parametrize("kind", ["mixed", "extreme"])
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_the_recurrence(reverse: bool, kind: str) -> None:
    for seed, length in enumerate(LENGTHS):
        fast, slow = partial(generalised_delta_rule, reverse=reverse), partial(rewritten, reverse=reverse)
        assert_core(fast, slow, inputs(length, seed, kind))


@pytest.mark.parametrize("reverse", [False, True])
def test_many_parts_equal_one(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 1)
    fast, slow = partial(generalised_delta_rule, reverse=reverse), partial(rewritten, reverse=reverse)
    assert_core(fast, slow, inputs(197, 1))


def test_the_delta_rule_is_one() -> None:
    """One decay for all channels, k and b in proportion to z: what `delta` computes by other means."""
    q, _, _, v, z, _ = (x.double() for x in inputs(130, 2))
    a, beta = (torch.rand(5, 130, H, 1, dtype=torch.float64) for _ in range(2))
    a = -0.6 * a
    y = generalised_delta_rule(q, a.expand_as(z), beta * z, v, z, -a.exp() * beta * z)
    torch.testing.assert_close(y, delta_rule(q, z, v, a[..., 0], beta[..., 0]))


@pytest.mark.parametrize("kind", [pytest.param("mixed", marks=pytest.mark.slow), "extreme"])
def test_float32_stays_near_float64_over_16384_positions(kind: str) -> None:
    given = [x[:1] for x in inputs(16_384, 5, kind)]
    ours, exact = (found(generalised_delta_rule, given, dtype) for dtype in (torch.float32, torch.float64))
    for x, y in zip(ours, exact, strict=True):
        assert difference(x.double(), y) < 1e-5


def test_what_is_kept_for_the_backward_pass() -> None:
    """The inputs and the states between chunks, nothing else: counted in numbers."""
    given = [x.requires_grad_() for x in inputs(197, 0)]
    assert kept(lambda: generalised_delta_rule(*given)) == sum(x.numel() for x in given) + 5 * H * 4 * E * P


def test_narrow_numbers_are_widened() -> None:
    q, a, k, v, z, b = inputs(197, 6)
    narrow = [q.bfloat16(), a, k, v.bfloat16(), z, b]
    with torch.autocast("cpu", torch.bfloat16):
        y = generalised_delta_rule(*narrow)
    assert y.dtype == torch.bfloat16
    assert difference(y.double(), rewritten(*(x.double() for x in narrow))) < 2**-8
    assert_as_without_autocast(generalised_delta_rule, [q, a, k, v, z, b])
