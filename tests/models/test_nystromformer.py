"""Nyströmformer against its definition, with the pseudo-inverse computed the same way and exactly."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lra.models import nystromformer
from lra.models.nystromformer import Nystromformer, pseudo_inverse, segments
from tests.help.compare import assert_mixer, distance
from tests.help.paper import assert_equation, join, projected, some_mask


def explicit(
    w: dict[str, Tensor],
    x: Tensor,
    mask: Tensor,
    landmarks: int,
    iterations: int,
    conv_kernel: int | None,
    rotary: bool,
) -> Tensor:
    """Xiong et al. 2021, algorithm 1, one example at a time on its real tokens alone."""
    rows = []
    for row, real in zip(x, mask, strict=True):
        n = int(real.sum())
        q, k, v = (t[:, :, real] for t in projected(w, row[None], 3, rotary=rotary))
        # Segment s holds the tokens r with floor(r K / n) = s; some hold none if n < K.
        parts = [[r for r in range(n) if r * landmarks // n == s] for s in range(landmarks)]
        ql, kl = (torch.stack([t[:, :, p].mean(2) for p in parts if p], 2) for t in (q, k))
        scale = q.shape[-1] ** -0.5
        f, a, b = ((s @ t.mT * scale).softmax(-1) for s, t in ((q, kl), (ql, kl), (ql, k)))
        norms = a.sum(-2).amax(-1) * a.sum(-1).amax(-1)
        z = a.mT / norms[..., None, None]
        eye = torch.eye(a.shape[-1], dtype=x.dtype)
        for _ in range(iterations):
            z = z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z))) / 4
        out = f @ z @ (b @ v)
        if conv_kernel:
            # One tap at a time: what stands `apart` later, by the places in the padded row, zero where that is none.
            place = real.nonzero()[:, 0]
            for tap, weight in enumerate(w["conv.weight"].flatten(1).T):
                apart = tap - (conv_kernel - 1) // 2
                out = out + weight[:, None, None] * ((place - place[:, None] == apart).to(v) @ v)
        out = (join(out) @ w["out.weight"].T)[0]
        rows.append(torch.zeros_like(x[0]).index_copy(0, real.nonzero()[:, 0], out))
    return torch.stack(rows)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 50),
    landmarks=st.sampled_from([1, 5, 16]),
    conv_kernel=st.sampled_from([None, 1, 7]),
    iterations=st.sampled_from([1, 6]),
    rotary=st.booleans(),
)
@example(seed=1, length=200, landmarks=16, conv_kernel=35, iterations=6, rotary=False)
@example(seed=2, length=150, landmarks=7, conv_kernel=35, iterations=6, rotary=True)
@example(seed=3, length=144, landmarks=16, conv_kernel=35, iterations=6, rotary=True)
@example(seed=3, length=70, landmarks=16, conv_kernel=201, iterations=4, rotary=False)
def test_equals_the_definition(seed, length, **options) -> None:
    torch.manual_seed(seed)
    layer = Nystromformer(15, 3, 50, qkv_dim=12, **options)
    x, mask = torch.randn(2, length, 15), some_mask(2, length, seed)
    assert_equation(layer, partial(explicit, **options), x, mask)


def test_no_more_landmarks_than_the_longest_example_has_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(nystromformer, "pseudo_inverse", lambda a, n: sizes.append(a.shape[-1]) or pseudo_inverse(a, n))
    layer = Nystromformer(12, 3, 50, landmarks=16)
    for longest, width in ((9, 9), (9, 40), (16, 20), (30, 40)):
        layer(torch.randn(2, width, 12), torch.arange(width) < torch.tensor([[longest], [3]]))
    assert sizes == [9, 9, 16, 16]


def test_all_landmarks_are_softmax_attention() -> None:
    torch.manual_seed(0)
    mask = torch.arange(24) < torch.tensor([[24], [17]])
    x = torch.randn(2, 24, 16) * 2

    def error(iterations: int) -> float:
        torch.manual_seed(1)
        layer = Nystromformer(16, 2, 24, landmarks=24, iterations=iterations, conv_kernel=None).double()
        q, k, v = (layer.split(p(x.double())) for p in (layer.query, layer.key, layer.value))
        exact = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return distance(layer(x.double(), mask)[mask], layer.out(layer.join(exact))[mask])

    errors = [error(i) for i in (2, 6, 20)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.2
    assert errors[2] < 1e-5


@pytest.mark.parametrize("kernel", [1, 7, 35])
def test_the_convolution_for_other_devices_is_the_same(kernel: int) -> None:
    """What CUDA runs, on the CPU."""
    torch.manual_seed(0)
    layer = Nystromformer(12, 3, 50, conv_kernel=kernel).double()
    v = torch.randn(2, 3, 90, 4, dtype=torch.float64)
    place, expected = torch.arange(90), 0.0
    for tap in range(kernel):
        moved = (place - place[:, None] == tap - kernel // 2).double() @ v
        expected = expected + layer.conv.weight[:, 0, tap, 0][:, None, None] * moved
    torch.testing.assert_close(layer.conv(v), expected)


def test_pseudo_inverse_keeps_empty_landmarks_apart() -> None:
    torch.manual_seed(0)
    a = torch.randn(2, 6, 6, dtype=torch.float64).softmax(-1)
    wider = F.pad(a, (0, 3, 0, 3))
    z = pseudo_inverse(wider, 30)
    torch.testing.assert_close(z[:, :6, :6], torch.linalg.pinv(a))
    assert z[:, 6:].abs().sum() == 0
    assert z[:, :, 6:].abs().sum() == 0


def test_segments_do_not_see_the_padding() -> None:
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[0, :13] = True
    mask[1, 5:31:2] = True
    weights, used = segments(mask, 4, torch.float32)
    torch.testing.assert_close(weights[0, :, :13], weights[1, :, 5:31:2])
    assert weights[~mask[:, None, :].expand_as(weights)].sum() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    assert used.all()
    assert segments(mask[:, :3], 4, torch.float32)[1].tolist() == [[True, True, True, False], [False] * 4]


def test_keeps_the_contract() -> None:
    for options in ({}, {"conv_kernel": None}, {"rotary": True}, {"landmarks": 5}):
        assert_mixer(lambda options=options, **facts: Nystromformer(**{"landmarks": 16, **facts, **options}))


@pytest.mark.parametrize("options", [{"landmarks": 0}, {"iterations": 0}, {"conv_kernel": 4}])
def test_says_which_option_is_wrong(options) -> None:
    with pytest.raises(ValueError, match=rf"^model\.mixer\.{next(iter(options))}: "):
        Nystromformer(16, 2, 8, **options)
