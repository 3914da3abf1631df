"""RWKV-7 against its equations, a position at a time, and where it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lra.check.subject import difference
from lra.models.parts.factory import build
from lra.models.rwkv7 import MIXED, RWKV7
from tests.help.compare import assert_mixer
from tests.help.mixers import defaults, tagged
from tests.help.paper import assert_equation, under, wake
from tests.help.recurrence import masks, recurrent, rewritten

HEADS = 3


def equation(w: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
    real, outs = mask[..., None].double(), []
    for way, reverse in enumerate((False, True)):
        own = under(w, f"ways.{way}")
        step, length = (1 if reverse else -1), x.shape[1]
        near = [x[:, t + step] if 0 <= t + step < length else torch.zeros_like(x[:, t]) for t in range(length)]
        near = torch.stack(near, 1)
        mixed = {name: x + (near - x) * m for name, m in zip(MIXED, own["mix"], strict=True)}

        def maps(name: str, y: Tensor, own: dict[str, Tensor] = own) -> tuple[Tensor, Tensor, Tensor]:
            return y @ own[f"{name}.0.weight"].T, own[f"{name}.2.weight"].T, own.get(f"{name}.2.bias", 0)

        def each(y: Tensor) -> Tensor:
            return y.unflatten(-1, (HEADS, -1))

        r, k, v = (mixed[n] @ own[f"{f}.weight"].T for n, f in (("r", "receptance"), ("k", "key"), ("v", "value")))
        first, second, bias = maps("decay", mixed["w"])
        log_decay = -(-torch.tensor(0.5)).double().exp() * (first.tanh() @ second + bias).sigmoid() * real
        first, second, bias = maps("erase", mixed["a"])
        a = (first @ second + bias).sigmoid()
        first, second, _ = maps("gate", mixed["g"])
        g = first.sigmoid() @ second
        z = each(k * own["key_scale"])
        z = z / (z.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        k = k * (1 + (a - 1) * own["key_erase"]) * real
        b = -each(a * real) * z
        r, k, v = each(r), each(k), each(v)
        y = rewritten(r, each(log_decay), k, v, z, b, reverse)
        y = y - y.mean(-1, keepdim=True)
        y = y / (y.square().mean(-1, keepdim=True) + y.shape[-1] * 1e-5).sqrt()
        y = y * own["norm_weight"] + own["norm_bias"] + (r * own["bonus"] * k).sum(-1, keepdim=True) * v
        outs.append(y.flatten(2) * g)
    return torch.cat(outs, -1) @ w["out.weight"].T


@pytest.mark.parametrize("length", [1, 2, 70])
def test_the_layer_equals_the_equation(length: int) -> None:
    torch.manual_seed(length)
    layer = RWKV7(10, HEADS, qkv_dim=24, rank=5)
    wake(layer)
    assert_equation(layer, recurrent(equation), torch.randn(5, length, 10), masks(length), single=1e-5)


def test_the_recurrence_passes_over_a_hole() -> None:
    """Numbers in a hole, and how long it is, move nothing behind it but by the neighbours, which are 0 there."""
    torch.manual_seed(0)
    layer, x = RWKV7(16, 2).double(), torch.randn(1, 40, 16, dtype=torch.float64)
    wake(layer, by=0.5)
    answers = []
    for hole in (2, 17):
        mask = torch.ones(1, 40 + hole, dtype=torch.bool)
        mask[:, 20 : 20 + hole] = False
        given = torch.full((1, 40 + hole, 16), 7.0, dtype=torch.float64)
        given[mask] = x.flatten(0, 1)
        answers.append(layer(given, mask)[mask])
    torch.testing.assert_close(*answers)
    assert not torch.allclose(answers[0], layer(x, torch.ones(1, 40, dtype=torch.bool))[0], atol=1e-3)


def test_turned_round() -> None:
    torch.manual_seed(0)
    layer, other, x = RWKV7(16, 2), RWKV7(16, 2), torch.randn(2, 90, 16)
    wake(layer, by=0.5)
    state = {}
    for name, value in layer.state_dict().items():
        state[name.replace("ways.0", "ways.x").replace("ways.1", "ways.0").replace("ways.x", "ways.1")] = value
    state["out.weight"] = torch.cat(layer.out.weight.chunk(2, 1)[::-1], 1)
    other.load_state_dict(state)
    mask = torch.ones(2, 90, dtype=torch.bool)
    torch.testing.assert_close(other(x.flip(1), mask).flip(1), layer(x, mask), rtol=1e-4, atol=1e-5)


def test_float32_at_16384() -> None:
    torch.manual_seed(0)
    layer, x = RWKV7(8, 1, rank=4), torch.randn(1, 16_384, 8)
    mask = torch.ones(1, 16_384, dtype=torch.bool)
    with torch.no_grad():
        y = layer(x, mask)
        assert difference(y.double(), layer.double()(x.double(), mask)) < 1e-5


def test_it_starts_as_the_authors_have_it() -> None:
    torch.manual_seed(0)
    for number, late, early in ((0, 0.0, 1.0), (2, 1.0, 1 / 3)):
        way = RWKV7(64, 2, layer=number, depth=3).ways[0]
        n = torch.arange(32)
        ramp, turn = n / 31, (n % 16 - 7.5) / 7.5
        turn = turn * turn.abs()
        for m, power in zip(way.mix, (0.2, 0.9, 0.7, 0.7, 0.9, 0.2), strict=True):
            torch.testing.assert_close(m, 1 - (torch.arange(64) / 64) ** (power * early))
        torch.testing.assert_close(way.decay[2].bias, -5.5 + 6 * ramp ** (1 + late**0.3) + 2.5 * turn)
        torch.testing.assert_close(way.erase[2].bias, -0.19 + 0.3 * turn + 0.4 * (ramp - 0.5))
        torch.testing.assert_close(way.key_scale, 0.71 - 0.1 * (ramp - 0.5))
        assert (way.key_erase == 1.02).all() and (way.bonus == -0.04).all() and not way.norm_bias.any()
        torch.testing.assert_close(way.norm_weight, torch.full((2, 16), ((number + 1) / 3) ** 0.7))
        for layer, gain in ((way.receptance, 1.0), (way.key, 0.1), (way.value, 1.0)):
            torch.testing.assert_close(layer.weight @ layer.weight.T, gain**2 * torch.eye(32), rtol=1e-4, atol=1e-5)
        for maps in (way.decay, way.erase, way.gate):
            assert not maps[0].weight.any() and 0.09 < torch.linalg.matrix_norm(maps[2].weight, 2) < 0.11
    assert way.gate[2].bias is None


def test_what_is_not_decayed() -> None:
    """Matrices of full rank alone are; the decays' own numbers learn twice as fast."""
    layer = RWKV7(16, 2)
    tags = tagged(layer)
    plain = {name for name, _ in layer.named_parameters()} - set(tags)
    assert plain == {"out.weight", *(f"ways.{i}.{n}.weight" for i in (0, 1) for n in ("receptance", "key", "value"))}
    fast = {name for name, tag in tags.items() if tag == {"rate": 2.0, "decay": 0.0}}
    assert fast == {"ways.0.decay.2.bias", "ways.1.decay.2.bias"}
    assert all(tags[name] == {"decay": 0.0} for name in set(tags) - fast)


def test_where_nothing_is_said() -> None:
    assert defaults(RWKV7) == {"qkv_dim": None, "rank": 32, "layer": 0, "depth": 1}


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="size.heads: 3 times 2 does not divide qkv_dim 16"):
        RWKV7(16, 3)
    with pytest.raises(ValueError, match="model.mixer.rank: 0 is not above 0"):
        RWKV7(16, 2, rank=0)
    assert RWKV7(2, 1)(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool)).isfinite().all()


def test_keeps_the_contract() -> None:
    def awake(**facts: int) -> torch.nn.Module:
        layer = build(RWKV7, **facts)
        if layer.out.weight.device.type != "meta":
            wake(layer)
        return layer

    assert_mixer(awake)
