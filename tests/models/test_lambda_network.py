"""LambdaNetwork against the linear map that each query has."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lra.models.lambda_network import Lambda
from lra.models.parts.factory import build
from lra.models.parts.taps import tapped
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_long, assert_twin, saved_bytes
from tests.help.recurrence import assert_core


def layer_norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, heads: int = 3) -> Tensor:
    q = layer_norm(w, "query_norm", x @ w["query.weight"].T).unflatten(-1, (heads, -1))
    k, v = x @ w["key.weight"].T, layer_norm(w, "value_norm", x @ w["value.weight"].T)
    e = w["positions"] if "positions" in w else q.new_zeros(q.shape[-1], 1)
    half, length = e.shape[1] // 2, x.shape[1]
    out = q.new_zeros(*q.shape[:3], v.shape[-1])
    for b, real in enumerate(mask):
        tokens = real.nonzero().flatten().tolist()
        keys = k[b, real].softmax(0)
        for n in range(length if tokens else 0):
            linear = keys.T @ v[b, real]
            for m in tokens:
                if abs(m - n) <= half:
                    linear = linear + torch.outer(e[:, m - n + half], v[b, m])
            out[b, n] = q[b, n] @ linear
    return out.flatten(2)


@pytest.mark.parametrize("reach", [0, 5, None])
@pytest.mark.parametrize("length", [1, 2, 19])
def test_the_layer_equals_the_equation(length: int, reach: int | None) -> None:
    torch.manual_seed(length)
    layer = Lambda(12, 3, 19, keys=5, reach=reach)
    assert (layer.positions is None) == (reach == 0)
    assert_twin(layer, equation, 12, length)


def test_reach_says_how_far_positions_go() -> None:
    assert Lambda(12, 3, 30, reach=7).positions.shape == (16, 7)
    assert Lambda(12, 3, 30, reach=None).positions.shape == (16, 59)
    assert Lambda(12, 3, 30).positions.shape == (16, 23)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("taps", [1, 4, 5])
def test_taps_equal_their_sum(taps: int, heads: int) -> None:
    """x for all heads at once, or for each; an even number of taps has one more behind."""
    torch.manual_seed(0)

    def slow(x: Tensor, w: Tensor) -> Tensor:
        rows = []
        for t in range(x.shape[1]):
            near = [(j, t + j - taps // 2) for j in range(taps)]
            rows.append(sum(w[:, t, :, j, None] * x[:, s] for j, s in near if 0 <= s < x.shape[1]))
        return torch.stack(rows, 1)

    for length in (1, 2, 30):
        assert_core(tapped, slow, [torch.randn(2, length, heads, 4), torch.randn(2, length, 3, taps)])


def test_no_convolution_is_kept() -> None:
    layer, x = Lambda(32, 2, 400, reach=None), torch.randn(1, 400, 32, requires_grad=True)
    assert saved_bytes(lambda: layer(x, torch.ones(1, 400, dtype=torch.bool))) < 16 * 400 * 16 * 4


def test_in_float32_at_16384() -> None:
    for reach in (5, None):
        torch.manual_seed(0)
        assert_long(Lambda(8, 1, 16_384, keys=4, reach=reach), 8)


def test_bad_options_are_told() -> None:
    for options, words in (
        ({"heads": 3}, "size.heads: 3 does not divide the width 16"),
        ({"keys": 0}, "model.mixer.keys: 0 is not above 0"),
        ({"reach": 4}, "model.mixer.reach: 4 is not odd and above 0, or 0, or null"),
        ({"reach": -1}, "model.mixer.reach: -1 is not odd"),
    ):
        with pytest.raises(ValueError, match=words):
            Lambda(16, **{"heads": 2, "max_len": 40, **options})


def test_keeps_the_contract() -> None:
    for reach in (0, 5, None):
        assert_mixer(partial(build, partial(Lambda, reach=reach)))
