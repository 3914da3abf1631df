"""Powers, kernels and initial values of modes, against what they are defined as."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lra.check.subject import difference
from lra.models.parts.modes import (
    Rates,
    inverse_frequencies,
    legs,
    linear_frequencies,
    mode_kernel,
    powers,
    slow,
)
from tests.help.mixers import saved_bytes, tagged


def some_modes(dim: int, modes: int) -> Tensor:
    """(D, N): as S4D has them, fast and slow, the phase of a step beyond a turn."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.logspace(-6, 1, dim * modes, dtype=torch.float64).view(dim, modes)
    return torch.complex(-decay, 40 * torch.randn(dim, modes, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers(dtype: torch.dtype) -> None:
    """Rounded once, at the end: as exact at step 16,383 as at step 1."""
    z, steps = some_modes(3, 4).requires_grad_(), torch.tensor([0, 1, 7, 1000, 16_383])
    ours, exact = powers(z, steps, dtype), (z.unsqueeze(-2) * steps[:, None]).exp()
    assert ours.shape == (3, 5, 4) and ours.dtype == dtype.to_complex()
    bound = 2e-7 if dtype == torch.float32 else 1e-9  # a phase of 10^6 has that many digits in float64
    back = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=dtype.to_complex())
    found = [torch.autograd.grad((y * back.conj()).real.sum(), z)[0] for y in (ours, exact)]
    assert difference(torch.view_as_real(ours).double(), torch.view_as_real(exact)) < bound
    assert difference(*map(torch.view_as_real, found)) < bound
    assert saved_bytes(lambda: powers(z, steps, dtype).real) == 60 * 2 * ours.real.element_size() + 5 * 8


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 15, 16, 17, 50])
def test_mode_kernel(length: int) -> None:
    """The sum over modes, tap by tap."""
    generator = torch.Generator().manual_seed(1)
    z = some_modes(3, 4).requires_grad_()
    w = torch.randn(2, 3, 4, generator=generator, dtype=torch.complex128).requires_grad_()
    exact = torch.stack([(w * (z * step).exp()).sum(-1).real for step in range(length)], -1)
    back = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        ours = mode_kernel(z, w, length, dtype)
        assert ours.shape == (2, 3, length) and ours.dtype == dtype
        assert difference(ours.double(), exact) < bound
        for leaf in (z, w):
            found = [torch.autograd.grad((y * back).sum(), leaf, retain_graph=True)[0] for y in (ours, exact)]
            assert difference(*map(torch.view_as_real, found)) < bound


def test_tables_of_a_kernel_are_small() -> None:
    """Of the root of the length: 16 times as many taps take four times the memory, taps apart."""
    z = some_modes(3, 4).requires_grad_()
    w = torch.ones(2, 3, 4, dtype=torch.complex128)
    kept = [saved_bytes(lambda length=length: mode_kernel(z, w, length, torch.float32)) for length in (1024, 16_384)]
    assert kept[1] < 4.2 * kept[0] and kept[0] < 40 * 12 * 2 * 32


def test_rates_stay_wide() -> None:
    rates = Rates(0.25, decay=torch.randn(3, dtype=torch.float64), dt=torch.randn(2))
    before = {n: p.clone() for n, p in rates.named_parameters()}
    assert all(p.dtype == torch.float32 for p in rates.parameters())
    for narrow in (torch.bfloat16, torch.float16):
        rates.to(narrow)
        assert all(torch.equal(p, before[n]) for n, p in rates.named_parameters())
    assert all(p.dtype == torch.float64 for p in rates.double().parameters())
    assert all(p.dtype == torch.float32 for p in rates.bfloat16().parameters())
    assert all(p.device.type == "meta" for p in rates.to("meta", torch.bfloat16).parameters())


def test_rates_learn_slowly_and_do_not_decay() -> None:
    rates = Rates(0.25, decay=torch.ones(3), dt=torch.ones(2))
    assert tagged(rates) == {name: {"rate": 0.25, "decay": 0.0} for name in ("decay", "dt")}
    assert slow(torch.ones(1), 0.5).lra == {"rate": 0.5, "decay": 0.0}
    for rate in (0, -1.0):
        with pytest.raises(ValueError, match=f"model.mixer.rate: {rate} is not above 0"):
            Rates(rate, decay=torch.ones(3))


def test_frequencies() -> None:
    assert linear_frequencies(5).tolist() == [math.pi * n for n in range(5)]
    expected = [10 / math.pi * (10 / (2 * n + 1) - 1) for n in range(5)]
    assert inverse_frequencies(5).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("modes", [1, 2, 5, 32])
def test_legs(modes: int) -> None:
    """Eigenvalues and eigenvectors of A + P P^T, entry by entry from the definition of HiPPO-LegS."""
    size = 2 * modes
    a = np.zeros((size, size))
    for n in range(size):
        for k in range(size):
            low = ((n + 0.5) * (k + 0.5)) ** 0.5
            a[n, k] = (-(((2 * n + 1) * (2 * k + 1)) ** 0.5) if n > k else -(n + 1) * (n == k)) + low
    exact = np.linalg.eigvals(a)
    np.testing.assert_allclose(exact.real, -0.5, atol=1e-8 * size)
    frequencies, vectors = legs(modes)
    above = np.sort(exact.imag[exact.imag > 0])
    np.testing.assert_allclose(frequencies.numpy(), above, rtol=1e-9)
    v = vectors.numpy()
    np.testing.assert_allclose(a @ v, v * (-0.5 + 1j * frequencies.numpy()), atol=1e-10 * above.max())
    np.testing.assert_allclose(v.conj().T @ v, np.eye(modes), atol=1e-12)
    np.testing.assert_allclose(v[0].imag, 0, atol=1e-15)
    assert (v[0].real > 0).all()
