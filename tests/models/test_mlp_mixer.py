"""The MLP over positions against its equation with padding at zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lra.models.mlp_mixer import MLPMixer
from tests.help.compare import assert_mixer
from tests.help.mixers import defaults, masks
from tests.help.paper import assert_equation

DIM, MAX_LEN = 5, 30


def slow(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    """Filled up to max_len with zeros, which is what is real of it; eq. 1 on every channel."""
    u = torch.zeros(len(x), MAX_LEN, DIM, dtype=x.dtype)
    u[:, : x.shape[1]] = torch.where(mask[..., None], x, 0)
    h = torch.einsum("hl,bld->bhd", w["inner.weight"], u) + w["inner.bias"][:, None]
    h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    y = torch.einsum("lh,bhd->bld", w["outer.weight"], h) + w["outer.bias"][:, None]
    return y[:, : x.shape[1]]


def test_equals_the_equation() -> None:
    for seed, length in enumerate((1, 2, 13, MAX_LEN)):
        torch.manual_seed(seed)
        x = torch.randn(5, length, DIM)
        assert_equation(MLPMixer(MAX_LEN, 7), slow, x, masks(length, seed), double=1e-11, single=1e-5)


def test_sizes_and_what_is_refused() -> None:
    assert defaults(MLPMixer) == {"hidden": 256}
    layer = MLPMixer(MAX_LEN, 1)
    assert layer.inner.weight.shape == (1, MAX_LEN) and layer.outer.weight.shape == (MAX_LEN, 1)
    with pytest.raises(ValueError, match="model.mixer.hidden: 0 is not at least 1"):
        MLPMixer(MAX_LEN, 0)
    with pytest.raises(ValueError, match="length 31 is above the 30 positions that are learned"):
        layer(torch.zeros(1, 31, DIM), torch.ones(1, 31, dtype=torch.bool))


def test_keeps_the_contract() -> None:
    assert_mixer(lambda dim, heads, max_len: MLPMixer(max_len, 64))
