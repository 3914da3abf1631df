"""Routing Transformer against its clusters written out, and its centroids against a running mean of directions."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.parts.chance import tell
from lra.models.parts.factory import build
from lra.models.routing import Routing
from lra.train.trainee import extra_loss
from tests.help.compare import assert_mixer
from tests.help.mixers import assert_twin, masks
from tests.help.paper import join, projected, softmax_over

HEADS = 3


def unit(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, centroids: Tensor, window: int, block: int) -> Tensor:
    q, k, v = projected(w, x, HEADS)
    local = HEADS - len(centroids)
    of = torch.arange(x.shape[1]) // block
    near = ((of[:, None] - of).abs() <= 1) & mask[:, None, None]
    out = [softmax_over(q[:, h : h + 1], k[:, h : h + 1], v[:, h : h + 1], near)[:, 0] for h in range(local)]
    for h, mu in enumerate(centroids.double(), local):
        y = torch.zeros_like(v[:, h])
        for b, real in enumerate(mask):
            tokens = real.nonzero().flatten()
            tilt = tokens.double() * (5**0.5 - 1) / 2 % 1 * 1e-3
            qs, ks, vs = unit(q[b, h, tokens]), unit(k[b, h, tokens]), v[b, h, tokens]
            answers: list[list[Tensor]] = [[] for _ in tokens]
            for c in mu:
                queries, keys = ((t @ c / t.shape[1] ** 0.5 + tilt).argsort(descending=True)[:window] for t in (qs, ks))
                for i in queries.tolist():
                    answers[i].append((qs[i] @ ks[keys].T / qs.shape[1] ** 0.5).softmax(-1) @ vs[keys])
            for i, found in enumerate(answers):
                if found:
                    y[b, tokens[i]] = torch.stack(found).mean(0)
        out.append(y)
    return join(torch.stack(out, 1)) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 8, 9, 15, 45])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = Routing(15, HEADS, 45, qkv_dim=12, clusters=5, block=8).eval()
    assert layer.local == 1 and layer.window == 9
    slow = partial(equation, centroids=layer.centroids, window=9, block=8)
    assert_twin(layer, slow, 15, length)


def trained(layer: Routing, x: Tensor, mask: Tensor) -> Tensor:
    """One forward and backward pass in training; the extra loss."""
    y = layer.train()(x.requires_grad_(), mask)
    loss = extra_loss([layer])
    (y.sum() + loss).backward()
    return loss.detach()


def nearest(layer: Routing, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """By loops: the sum of unit queries and keys by centroid, and what the commitment asks for."""
    sums, loss = torch.zeros_like(layer.centroids, dtype=torch.float64), 0.0
    w = {n: p.detach().double() for n, p in layer.named_parameters()}
    x = x.detach().double().masked_fill(~mask[..., None], 0)
    for t in projected(w, x, layer.heads)[:2]:
        for h, mu in enumerate(layer.centroids.double()):
            for b, real in enumerate(mask):
                for row in unit(t[b, h + layer.local, real]) / t.shape[-1] ** 0.5:
                    best = int((mu @ row).argmax())
                    sums[h, best] += row
                    each = int(real.sum()) * len(mask) * len(layer.centroids) * 2
                    loss += float((row - mu[best]).square().sum()) / each
    return sums, torch.tensor(loss)


def test_centroids_follow_the_mean_direction_of_the_nearest_real_tokens() -> None:
    torch.manual_seed(0)
    mask, average = masks(40), torch.zeros(2, 4, 5, dtype=torch.float64)
    layer = Routing(16, 3, 40, qkv_dim=15, clusters=4, decay=0.9, commitment=0.5)
    for turn in range(3):
        x = torch.randn(5, 40, 16)
        before = layer.centroids.clone()
        sums, loss = nearest(layer, x, mask)
        torch.testing.assert_close(trained(layer, x, mask).double(), 0.5 * loss.double(), rtol=1e-5, atol=0)
        moved = sums.norm(dim=-1) > 0
        average[moved] = 0.9 * average[moved] + 0.1 * F.normalize(sums, dim=-1)[moved]
        expected = torch.where(moved[..., None], F.normalize(average, dim=-1), before.double())
        torch.testing.assert_close(layer.centroids.double(), expected, rtol=0, atol=1e-5)
        if turn == 0:  # nothing is left of where they started
            first = F.normalize(sums, dim=-1)
            torch.testing.assert_close(layer.centroids.double()[moved], first[moved], rtol=0, atol=1e-5)
    still = layer.centroids.clone()
    layer.eval()(torch.randn(5, 40, 16), mask)
    assert torch.equal(layer.centroids, still) and extra_loss([layer]) is None


def test_a_step_in_parts_is_one_step() -> None:
    """Told which step it is, the centroids stand still until the next one and then see all parts at once."""
    torch.manual_seed(0)
    whole = Routing(16, 2, 40, clusters=4)
    parts = copy.deepcopy(whole)
    x, mask = torch.randn(5, 40, 16), masks(40)
    for layer, cuts in ((whole, [range(5)]), (parts, [[3], [0, 4], [1, 2]])):
        for cut in map(list, cuts):
            before = layer.centroids.clone()
            layer.train()
            tell(layer, 0, 0, torch.tensor(cut))
            trained_before = layer.told
            if layer is parts:  # what no backward pass follows leaves nothing
                layer(1 - x[cut], mask[cut])
                assert not layer.seen.requires_grad
            layer(x[cut].clone().requires_grad_(), mask[cut]).sum().backward()
            assert trained_before and torch.equal(layer.centroids, before)
        tell(layer, 0, 1, torch.arange(5))
    torch.testing.assert_close(parts.centroids, whole.centroids, rtol=0, atol=1e-6)
    assert not torch.equal(whole.centroids, before)
    assert not whole.members.any()


def test_of_tokens_that_are_alike_the_place_decides() -> None:
    torch.manual_seed(0)
    layer = Routing(16, 2, 64, clusters=8).eval()
    x = torch.randn(1, 4, 16)[:, torch.arange(64) % 4]
    whole = torch.ones(1, 64, dtype=torch.bool)
    longer = torch.nn.functional.pad(x, (0, 0, 0, 13))
    again = layer(longer, torch.arange(77)[None] < 64)[:, :64]
    torch.testing.assert_close(again, layer(x, whole), rtol=0, atol=1e-6)


def test_bad_options_are_told() -> None:
    for field in ("clusters", "block"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0"):
            Routing(16, 2, 40, **{field: 0})
    with pytest.raises(ValueError, match=r"model.mixer.decay: 1 is not in \[0, 1\)"):
        Routing(16, 2, 40, decay=1)
    assert Routing(16, 2, 40, decay=0).decay == 0
    assert Routing(16, 2, 1000).centroids.shape == (1, 32, 8)


def test_keeps_the_contract() -> None:
    for clusters in (1, 6):
        assert_mixer(partial(build, partial(Routing, clusters=clusters)), bf16=2.0)  # rounding moves members
