"""The gated attention unit and FLASH against all of their weights."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lra.machine.flops import counter
from lra.models.gau import GAU
from lra.models.parts import tiles
from lra.models.parts.factory import build
from lra.models.parts.squared import tiles_of
from tests.help.compare import assert_mixer, distance
from tests.help.mixers import assert_long, assert_twin, masks, saved_bytes
from tests.help.paper import assert_equation, leaves, turned, wake


def silu(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return y / (1 + (-y).exp())


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor, group: int | None) -> Tensor:
    length = x.shape[1]
    u, v, z = (silu(w, name, x) for name in ("gate", "value", "base"))
    q, k, *far = (z * g + b for g, b in zip(w["gamma"], w["beta"], strict=True))
    of = torch.arange(length) // (group or length)
    same = (of[:, None] == of) & mask[:, None]  # (B, L, L)
    near, there = (turned(row.expand(length, -1)) for row in w["bias"])
    scores = q @ k.mT / same.sum(-1, keepdim=True).clamp(min=1) + near @ there.T
    y = scores.clamp(min=0).square() * same @ v
    if far:
        y = y + far[0] @ far[1].mT * mask[:, None] @ v / mask.sum(1).clamp(min=1)[:, None, None]
    return u * y @ w["out.weight"].T + w["out.bias"]


@pytest.mark.parametrize(
    ("length", "group"), [*product((1, 15, 16, 17, 60), (None, 16)), (17, 1), (60, 24), (130, None)]
)
def test_the_layer_equals_the_equation(length: int, group: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 queries at a time, in one group of one example."""
    monkeypatch.setattr(tiles, "CPU_BLOCK", 1)
    torch.manual_seed(length)
    assert_twin(GAU(10, keys=6, group=group), partial(equation, group=group), 10, length, awake=0.4)


@pytest.mark.parametrize(
    ("group", "buffer", "cut"),
    [
        (16, 3 * 16 * 20, [(1, 3), (1, 1)] * 5),  # some of the groups of an example
        (16, 8 * 16 * 20, [(2, 4), (2, 4), (1, 4)]),  # some examples, whole
        (1, 25 * 20, [(1, 25), (1, 25), (1, 10)] * 5),
        (None, 2 * 60 * 60, [(2, 1), (2, 1), (1, 1)]),
        (16, tiles.CPU_BLOCK, [(5, 4)]),
    ],
)
def test_in_tiles_of_every_kind(
    group: int | None, buffer: int, cut: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five examples, in small buffers and in the real ones."""
    monkeypatch.setattr(tiles, "CPU_BLOCK", buffer)
    value = torch.zeros(5, -(-60 // group) if group else 1, group or 60, 20)
    assert [value[tile].shape[:2] for tile in tiles_of(value)] == cut
    torch.manual_seed(0)
    assert_twin(GAU(10, keys=6, group=group), partial(equation, group=group), 10, 60, awake=0.4)


@pytest.mark.parametrize("group", [None, 16])
@pytest.mark.parametrize("length", [64, 70])
def test_without_padding(length: int, group: int | None) -> None:
    """Also where the last group is not whole, and what x and its projections are lies in another order."""
    torch.manual_seed(length)
    layer = GAU(10, keys=6, group=group)
    wake(layer, by=0.4)
    for linear in (layer.gate, layer.value, layer.base):
        linear.register_forward_hook(lambda _, __, y: y.mT.contiguous().mT)
    x, mask = torch.randn(length, 3, 10).transpose(0, 1), torch.ones(3, length, dtype=torch.bool)
    assert_equation(layer, partial(equation, group=group), x, mask, single=1e-5)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("group", [None, 16])
def test_of_bf16_it_computes_in_float32(group: int | None, autocast: bool) -> None:
    """The products of its layers are exact here: what is left is the rounding of what it gives back."""
    torch.manual_seed(0)
    layer = GAU(12, expand=1, keys=6, group=group)
    wake(layer, by=0.6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.bfloat16())
        for linear in (layer.gate, layer.value, layer.base, layer.out):
            linear.bias.zero_()
        layer.out.weight.copy_(torch.eye(12))
    mask, x = masks(60), F.one_hot(torch.randint(12, (5, 60))).float()
    back = torch.randn(5, 60, 12).bfloat16().double() * mask[..., None]
    w, bound = leaves(layer), 1e-5 if autocast else 2**-8
    exact = equation(w, x.double() * mask[..., None], mask, group)
    wanted = torch.autograd.grad(exact, [w[n] for n in ("gamma", "beta", "bias")], back)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x, mask) if autocast else layer.bfloat16()(x.bfloat16(), mask)
        found = torch.autograd.grad(y, [layer.gamma, layer.beta, layer.bias], back.to(y.dtype))
    assert y.dtype == torch.bfloat16 and distance(y[mask], exact[mask]) < 2**-8
    for ours, expected in zip(found, wanted, strict=True):
        assert distance(ours, expected) < bound


@pytest.mark.parametrize("group", [None, 16, 100])
def test_products_are_counted(group: int | None) -> None:
    """The FLOPs of a training step, as `lra` counts them, with what is made again in the backward pass."""
    layer, batch, length, dim, keys, wide = GAU(10, keys=6, group=group).to("meta"), 3, 64, 10, 6, 20
    x = torch.zeros(batch, length, dim, device="meta", requires_grad=True)
    with counter() as counted:
        layer(x, torch.ones(batch, length, dtype=torch.bool, device="meta")).sum().backward()
    projections, near = 3 * dim * (3 * wide + keys), min(group or length, length) * (4 * keys + 3 * wide)
    far = 6 * keys * wide if group else 0
    assert counted.get_total_flops() == 2 * batch * length * (projections + near + far)


def test_in_float32_at_16384() -> None:
    torch.manual_seed(0)
    assert_long(GAU(4, keys=4, group=64), 4)


def test_no_weights_are_kept() -> None:
    layer, x = GAU(16, keys=8), torch.randn(1, 800, 16, requires_grad=True)
    assert saved_bytes(lambda: layer(x, torch.ones(1, 800, dtype=torch.bool))) < 40 * x.numel() * 4 < 800 * 800 * 4


def test_bad_options_are_told() -> None:
    for field in ("expand", "keys", "group"):
        with pytest.raises(ValueError, match=f"model.mixer.{field}: 0 is not above 0"):
            GAU(16, **{field: 0})
    assert GAU(4, expand=1, keys=2, group=1).out.weight.shape == (4, 4)
    with pytest.raises(ValueError, match="model.mixer.keys: 5 is not even"):
        GAU(16, keys=5)


def test_it_starts_as_the_paper_has_it() -> None:
    torch.manual_seed(0)
    layer = GAU(64)
    for weight in (layer.gate.weight, layer.base.weight, layer.gamma, layer.out.weight):
        assert 0.017 < weight.std() < 0.023
    assert layer.gate.weight.shape == (128, 64) and layer.base.weight.shape == (128, 64) and not layer.beta.any()


def test_keeps_the_contract() -> None:
    for group in (None, 16):
        assert_mixer(partial(build, partial(GAU, group=group)))
