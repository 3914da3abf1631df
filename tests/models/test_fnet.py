"""FNet against the sums of its definition, over the real tokens of an example."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra.check.subject import difference
from lra.models.fnet import FNet
from tests.help.compare import assert_mixer, assert_same
from tests.help.mixers import masks


def transform(n: int) -> Tensor:
    """exp(-2 pi i j k / n), (n, n)."""
    place = torch.arange(n, dtype=torch.float64)
    return torch.exp(-2j * torch.pi * torch.outer(place, place) / n)


def slow(x: Tensor, mask: Tensor) -> Tensor:
    out = []
    for row, real in zip(x, mask, strict=True):
        y, some = torch.zeros_like(row), row[real]
        y[real] = (transform(len(some)) @ (some + 0j) @ transform(row.shape[1])).real
        out.append(y)
    return torch.stack(out)


def test_equals_the_sums() -> None:
    layer = FNet()
    for length in (1, 2, 3, 31, 64, 101):
        for dim in (1, 6):
            x = torch.randn(5, length, dim, generator=torch.Generator().manual_seed(length))
            for mask in (masks(length, length), torch.ones(5, length, dtype=torch.bool)):
                assert_same(lambda x, m=mask: layer(x, m), lambda x, m=mask: slow(x, m), [x], mask, 2e-6)
                ours = layer(x.double(), mask)
                torch.testing.assert_close(ours, slow(x.double(), mask), rtol=0, atol=1e-10)


def test_float32_at_16384() -> None:
    """Periods that have no small factors, and the whole length."""
    layer = FNet()
    x = torch.randn(3, 16_384, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(16_384) < torch.tensor([[16_384], [16_381], [9973]])
    ours = layer(x, mask)
    for row, exact, real in zip(ours, x.double(), mask, strict=True):
        expected = torch.fft.fft2(exact[real]).real
        assert difference(row[real].double(), expected) < 2e-6


class Unit(nn.Module):
    """Sums of 48 x 32 numbers brought back to the size of one, by which the contract's bounds are meant."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return FNet()(x, mask) * (48 * 32) ** -0.5


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: Unit())


def test_narrow_numbers_are_transformed_in_float32() -> None:
    x = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    for mask in (masks(50)[[0, 0]], masks(50)[[1, 3]]):
        exact = FNet()(x.float(), mask).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(FNet()(x, mask), exact)
