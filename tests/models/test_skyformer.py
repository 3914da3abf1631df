"""Skyformer against its kernels written out."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.parts.factory import build
from lra.models.skyformer import Skyformer
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin
from tests.help.paper import join, projected


def gaussian(a: Tensor, b: Tensor, width: int) -> Tensor:
    return (-(a[:, None] - b).square().sum(-1) / (2 * width**0.5)).exp()


def inverted(a: Tensor, iterations: int) -> Tensor:
    """Nyströmformer's eq. 14 and 15."""
    one = torch.eye(len(a), dtype=a.dtype)
    z = a.T / (a.sum(0).max() * a.sum(1).max())
    for _ in range(iterations):
        z = z @ (13 * one - a @ z @ (15 * one - a @ z @ (7 * one - a @ z))) / 4
    return z


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, places: Tensor, iterations: int, heads: int = 3) -> Tensor:
    q, k, v = projected(w, x, heads)
    width, half, out = q.shape[-1], len(places) // 2, torch.zeros_like(v)
    for b, real in enumerate(mask):
        at = [int(u * int(real.sum())) for u in places.tolist()]
        for h in range(heads if real.any() else 0):
            qs, ks, vs = q[b, h, real], k[b, h, real], v[b, h, real]
            z = torch.cat((qs[at[:half]], ks[at[half:]]))
            gram = gaussian(z, z, width) + 0.1 * torch.eye(len(z), dtype=z.dtype)
            d = gram.sum(1).rsqrt().diag()
            inner = d @ inverted(d @ gram @ d, iterations) @ d
            out[b, h, real] = gaussian(qs, z, width) @ inner @ gaussian(z, ks, width) @ vs
    return join(out) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 40])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Skyformer(15, 3, 40, qkv_dim=12, landmarks=7)
    assert_twin(layer, partial(equation, places=layer.places / 2**31, iterations=6), 15, length)


def test_it_is_near_the_kernel_it_approximates() -> None:
    """With as many rows as there are, and time to invert, what is left is the ridge: a share of the whole."""
    torch.manual_seed(0)
    layer, x = Skyformer(16, 1, 20, landmarks=400, iterations=30).double(), torch.randn(1, 20, 16).double()
    q, k, v = projected({n: p.detach() for n, p in layer.named_parameters()}, x, 1)
    exact = gaussian(q[0, 0], k[0, 0], 16) @ v[0, 0] @ layer.out.weight.T
    y = layer(x, torch.ones(1, 20, dtype=torch.bool))[0]
    assert (y - exact).norm() < 0.1 * exact.norm()


def test_places_are_uniform_and_drawn_again_when_asked() -> None:
    torch.manual_seed(0)
    layer = Skyformer(8, 1, 40, landmarks=2000, redraw=2)
    u = layer.places / 2**31
    assert abs(u.mean() - 0.5) < 0.03 and abs(u.std() - 12**-0.5) < 0.02 and u.min() >= 0 and u.max() < 1
    before = layer.places.clone()
    layer.at_step(1)
    assert torch.equal(layer.places, before)
    twin = copy.deepcopy(layer)
    layer.at_step(2)
    torch.rand(3)
    twin.at_step(2)
    assert not torch.equal(layer.places, before) and torch.equal(twin.places, layer.places)


def test_bad_options_are_told() -> None:
    with pytest.raises(ValueError, match="model.mixer.landmarks: 1 is not 2 or more"):
        Skyformer(16, 2, 40, landmarks=1)
    with pytest.raises(ValueError, match="model.mixer.iterations: 0 is not above 0"):
        Skyformer(16, 2, 40, iterations=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, partial(Skyformer, landmarks=8)), bf16=0.1)
