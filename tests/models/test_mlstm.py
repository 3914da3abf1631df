"""mLSTM against its parallel form, all gates written out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.models.mlstm import MLSTM, stabiliser
from lra.models.parts.factory import build
from tests.help.compare import assert_mixer
from tests.help.paper import assert_equation, assert_normal, wake
from tests.help.recurrence import convolved, kept, masks, recurrent

HEADS = 2


def cell(q: Tensor, k: Tensor, v: Tensor, f: Tensor, i: Tensor, mask: Tensor) -> Tensor:
    """h of q, k, v (B, H, L, E), causal: C_ts = q_t k_s exp(F_t - F_s + i_s) / sqrt(E), nothing stabilised."""
    total = (F.logsigmoid(f) * mask[:, None]).cumsum(-1)
    gates = (total.unsqueeze(-1) - total.unsqueeze(-2) + i.unsqueeze(-2)).exp() * mask[:, None, None]
    weights = (q @ k.mT / q.shape[-1] ** 0.5 * gates).tril()
    return weights @ v / weights.sum(-1, keepdim=True).abs().clamp(min=1)


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    inner = x @ w["up.weight"].T
    outs = []
    for way, reverse in enumerate((False, True)):
        own = {n.removeprefix(f"ways.{way}."): p for n, p in w.items() if n.startswith(f"ways.{way}.")}
        u = inner.chunk(2, -1)[way]
        smooth = convolved(u, own["conv.weight"], own["conv.bias"], reverse)
        maps = (torch.block_diag(*own[f"{name}.weight"]) for name in ("query", "key", "value"))
        q, k, v = (t @ m.T for t, m in zip((smooth, smooth, u), maps, strict=True))
        weight = torch.cat([own[f"gates.{of}.weight"] for of in (0, 1, 2)], 1)
        i, f = (torch.cat((q, k, v), -1) @ weight.T + own["gates.2.bias"]).mT.chunk(2, 1)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        real = mask.double()
        if reverse:
            h = cell(*(t.flip(2) for t in (q, k, v)), f.flip(-1), i.flip(-1), real.flip(-1)).flip(2)
        else:
            h = cell(q, k, v, f, i, real)
        h = h - h.mean(-1, keepdim=True)
        h = (h / (h.square().mean(-1, keepdim=True) + 1e-5).sqrt()).transpose(1, 2).flatten(2)
        outs.append(h * own["scale"] + own["skip"] * smooth)
    return (torch.cat(outs, -1) * F.silu(x @ w["gate.weight"].T)) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 70])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = MLSTM(10, HEADS, qkv_dim=16, expand=3, conv_kernel=3)
    wake(layer)
    assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_stabiliser_is_the_running_maximum(reverse: bool) -> None:
    """m_t = max(log f_t + m_{t-1}, i_t) from m = 0, a step at a time."""
    generator = torch.Generator().manual_seed(0)
    f = F.logsigmoid(30 * torch.randn(2, 50, 3, generator=generator).double())
    i = (30 * torch.randn(2, 50, 3, generator=generator).double()).index_fill(1, torch.tensor([0, 7, 49]), -torch.inf)
    peak, decay = stabiliser(f, i, reverse)
    m = torch.zeros(2, 3).double()
    for t in reversed(range(50)) if reverse else range(50):
        new = torch.maximum(f[:, t] + m, i[:, t])
        torch.testing.assert_close(peak[:, t], new)
        torch.testing.assert_close(decay[:, t], f[:, t] + m - new, rtol=1e-9, atol=1e-9)
        m = new
    assert (decay <= 0).all()


@pytest.mark.parametrize("gate", [-1000.0, -30.0, 30.0, 1000.0])
def test_gates_may_be_anything(gate: float) -> None:
    torch.manual_seed(0)
    for which in (slice(0, 2), slice(2, 4)):
        layer, x, mask = MLSTM(16, 2), torch.randn(5, 200, 16), masks(200)
        for way in layer.ways:
            torch.nn.init.constant_(way.gates[2].bias[which], gate)
        y = layer(x, mask)
        y.square().sum().backward()
        assert torch.isfinite(y).all() and all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_a_long_hole_is_passed_over() -> None:
    """Where no window of four lies over its ends the state is as it was: other numbers and other lengths of it."""
    torch.manual_seed(0)
    layer, x, answers = MLSTM(16, 2), torch.randn(2, 90, 16), []
    for hole in (10, 40):
        given = torch.cat((x[:, :40], torch.full((2, hole, 16), torch.nan), x[:, 40:]), 1)
        mask = torch.ones(2, 90 + hole, dtype=torch.bool)
        mask[:, 40 : 40 + hole] = False
        answers.append(layer(given, mask)[mask])
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-6)


def test_turned_round() -> None:
    """With the two ways exchanged, the input turned round turns the output round."""
    torch.manual_seed(0)
    layer, other, x = MLSTM(16, 2), MLSTM(16, 2), torch.randn(2, 90, 16)
    wake(layer)
    given = layer.state_dict()
    state = {n: torch.cat(given[n].chunk(2)[::-1]) for n in ("up.weight", "gate.weight")}
    state["out.weight"] = torch.cat(given["out.weight"].chunk(2, 1)[::-1], 1)
    for way in (0, 1):
        state |= {n.replace(f"ways.{way}.", f"ways.{1 - way}."): p for n, p in given.items() if f"ways.{way}." in n}
    other.load_state_dict(state)
    mask = torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(other(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_authors_have_it() -> None:
    torch.manual_seed(0)
    layer = MLSTM(256, 4, depth=3, expand=2)
    for weight in (layer.up.weight, layer.gate.weight, *(getattr(layer.ways[1], n).weight for n in ("query", "key"))):
        assert_normal(weight, (2 / (5 * 256)) ** 0.5)
    assert_normal(layer.ways[0].value.weight, (2 / (5 * 256)) ** 0.5)
    assert_normal(layer.out.weight, 2 / 3 / 16)
    assert layer.up.weight.shape == layer.gate.weight.shape == (512, 256) and layer.out.weight.shape == (256, 512)
    for way in layer.ways:
        assert torch.equal(way.gates[2].bias[4:], torch.tensor([3.0, 4.0, 5.0, 6.0]))
        assert not any(gates.weight.any() for gates in way.gates)
        assert torch.equal(way.scale, torch.ones(256)) and torch.equal(way.skip, torch.ones(256))
        assert way.conv.weight.shape == (256, 4) and way.conv.bias is not None
    assert MLSTM(16, 2).up.weight.shape == (16, 16) and MLSTM(16, 2).ways[0].conv.weight.shape == (8, 4)
    wide = MLSTM(400, 400, expand=2)  # of input gates there are enough to know their spread
    assert_normal(torch.cat([way.gates[2].bias[:400] for way in wide.ways]), 0.1)


def test_little_is_kept_for_the_backward_pass() -> None:
    """Of each way its input alone."""
    layer, x = MLSTM(16, 2, expand=1), torch.randn(1, 130, 16, requires_grad=True)
    mask = torch.ones(1, 130, dtype=torch.bool)
    weights = sum(p.numel() for p in layer.parameters())
    # x, u of both ways, y, z, silu(z) and the product of the two: 6 times x.
    assert kept(lambda: layer(x, mask)) <= 6 * x.numel() + weights


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="size.heads: 3 times 2 does not divide qkv_dim 32"):
        MLSTM(16, 3, expand=2)
    with pytest.raises(ValueError, match="size.qkv_dim: 6 times 2 is not a multiple of 8"):
        MLSTM(6, 1, expand=2)
    with pytest.raises(ValueError, match="model.mixer.expand: 0 is not above 0"):
        MLSTM(16, 2, expand=0)
    with pytest.raises(ValueError, match="model.mixer.conv_kernel: 0"):
        MLSTM(16, 2, conv_kernel=0)


def test_keeps_the_contract() -> None:
    assert_mixer(partial(build, MLSTM))
