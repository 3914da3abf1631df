"""The chunked recurrence against the loop over positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lra.models.parts.tiles
from lra.check.subject import difference
from lra.models.parts.scan import scan, two_way
from tests.help.mixers import LENGTHS, saved_bytes
from tests.help.paper import assert_close, results

N = 5


def loop(g: Tensor, v: Tensor, ahead: bool) -> Tensor:
    """h_t = exp(g_t) h_(t-1) + v_t, or from h_(t+1): one position after the other."""
    states, h = {}, torch.zeros_like(v[:, 0])
    for t in reversed(range(v.shape[1])) if ahead else range(v.shape[1]):
        h = (g if g.dim() == 1 else g[:, t]).exp() * h + v[:, t]
        states[t] = h
    return torch.stack([states[t] for t in range(v.shape[1])], 1)


def drawn(length: int, kind: str, batch: int = 3) -> tuple[Tensor, Tensor]:
    """g and v in float64: decays from e^-80 to e^(-1e-6) a step, phases anywhere."""
    generator = torch.Generator().manual_seed(length)
    decay = -torch.logspace(-6, 1.9, N, dtype=torch.float64)
    v = torch.randn(2, batch, length, N, generator=generator, dtype=torch.float64)
    if kind == "complex":
        phase = 9 * torch.randn(N, generator=generator, dtype=torch.float64)
        return torch.complex(decay, phase), torch.complex(*v)
    if kind == "real":
        return decay, v[0]
    mixed = torch.randint(0, N, (batch, length, N), generator=generator)
    return decay[mixed].float().double(), v[0]


def both(g: Tensor, v: Tensor, ahead: bool, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Results of the scan on v in `dtype` and of the loop on the same numbers, with gradients of g and v."""
    narrow = dtype if not v.is_complex() else dtype.to_complex()
    ours = {"g": g.to(dtype if g.dim() == 3 else g.dtype), "v": v.to(narrow)}
    found = []
    for run, given in ((scan, ours), (loop, {name: t.to(exact(t)) for name, t in ours.items()})):
        leaves = {name: t.clone().requires_grad_() for name, t in given.items()}
        h = run(*leaves.values(), ahead)
        out = torch.view_as_real(h) if h.is_complex() else h
        found.append(results(out, torch.tensor(True), leaves))
        assert h.dtype == leaves["v"].dtype and all(torch.equal(leaves[name], given[name]) for name in given)
    return tuple({n: torch.view_as_real(t) if t.is_complex() else t for n, t in some.items()} for some in found)


def exact(t: Tensor) -> torch.dtype:
    return torch.complex128 if t.is_complex() else torch.float64


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kind", ["complex", "real", "varying"])
@pytest.mark.parametrize("length", [*LENGTHS, 64, 65])
def test_equals_the_loop(length: int, kind: str, ahead: bool) -> None:
    g, v = drawn(length, kind)
    assert_close(*both(g, v, ahead, torch.float64), 1e-12)
    single, double = both(g, v, ahead, torch.float32)
    assert_close(single, double, 5e-6)
    for name, expected in double.items():
        assert difference(single[name].detach().double(), expected.detach()) < 5e-6 or length == 1, name


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kind", ["complex", "real", "varying"])
def test_more_chunks_than_a_chunk_is_long(kind: str, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third level, and sums over blocks of positions."""
    monkeypatch.setattr(lra.models.parts.tiles, "CPU_BLOCK", 300)
    g, v = drawn(32 * 33 + 7, kind, batch=2)
    assert_close(*both(g, v, ahead, torch.float64), 1e-11)


@pytest.mark.parametrize(
    ("kind", "length"),
    [("complex", 4_096), *(pytest.param(k, 16_384, marks=pytest.mark.slow) for k in ("complex", "real", "varying"))],
)
def test_float32_over_a_long_input(kind: str, length: int) -> None:
    g, v = drawn(length, kind, batch=1)
    single, double = both(g, v, False, torch.float32)
    for name, expected in double.items():
        assert difference(single[name].detach().double(), expected.detach()) < 5e-6, name


def test_a_decay_that_hardly_is_one_is_not_rounded_away() -> None:
    """exp(-1e-6) in float32 is 3 % off: the sum of 10^5 ones would be 1.5e-3 off."""
    length = 100_000
    for g in (torch.full((1,), -1e-6, dtype=torch.float64), torch.full((1, length, 1), -1e-6)):
        h = scan(g, torch.ones(1, length, 1))[0, :, 0].double()
        rate = g.double().flatten()[0]
        expected = torch.expm1(rate * torch.arange(1, length + 1)) / torch.expm1(rate)
        assert difference(h, expected) < 2e-6


def test_keeps_exponents_and_states() -> None:
    for kind in ("complex", "real", "varying"):
        g, v = (t.requires_grad_() for t in drawn(500, kind))
        sizes = [t.numel() * t.element_size() for t in (g, v)]
        assert saved_bytes(lambda g=g, v=v: scan(g, v).abs().sum(-1) if v.is_complex() else scan(g, v)) <= sum(
            sizes
        ) + (0 if kind != "complex" else v.numel() * 8)


def test_two_way_reads_both_directions() -> None:
    generator = torch.Generator().manual_seed(1)
    g, _ = drawn(3, "complex")
    x, enter, read = (
        torch.randn(s, generator=generator, dtype=torch.float64) for s in ((2, 70, 4), (N, 2, 4), (2, 4, N, 2))
    )
    b, c = torch.complex(enter[:, 0], enter[:, 1]), torch.view_as_complex(read)
    v = x.to(b.dtype) @ b.T
    expected = (loop(g, v, False) @ c[0].T + loop(g, v, True) @ c[1].T).real
    torch.testing.assert_close(two_way(x, g, enter, read), expected, rtol=0, atol=1e-11)
    narrow = x.bfloat16()
    exactly = two_way(narrow.float(), g, enter, read)
    for context in (torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)):
        with context:
            y = two_way(narrow, g, enter, read)
        assert y.dtype == torch.bfloat16 and torch.equal(y, exactly.bfloat16())
