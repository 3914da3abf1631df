"""Quantisation that is executed, trained through, or shared out between layers, against slow float64 twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lra.treatments import after, examples, int8_static
from lra.treatments.int8_static import StaticLinear
from tests.treatments.test_options import answers, batch_of, option, subject


def product(x: torch.Tensor, layer: nn.Linear, end: float, ends: torch.Tensor) -> np.ndarray:
    """Quantise, dequantise, multiply: (n, in) -> (n, out), each channel's scale by itself."""
    x, weight = x.double().numpy(), layer.weight.detach().double().numpy()
    scale = float(np.float32(end / 127))
    given = np.clip(np.rint(x / scale), -128, 127) * scale
    out = np.zeros((len(x), len(weight)))
    for c, row in enumerate(weight):
        s = float(ends.double().flatten()[c if len(ends) > 1 else 0]) / 127
        out[:, c] = given @ (np.clip(np.rint(row / s), -127, 127) * s)
    return out if layer.bias is None else out + layer.bias.detach().double().numpy()


def off_borders(shape: tuple[int, ...], scale: float, draw: torch.Generator) -> torch.Tensor:
    """Normal numbers, none within a tenth of a step of where rounding turns."""
    steps = (torch.randn(shape, generator=draw) / scale).round()
    return (steps + 0.8 * (torch.rand(shape, generator=draw) - 0.5)) * scale


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize(("rows", "width", "channels"), [(1, 1, 1), (37, 130, 70), (301, 257, 33)])
def test_static_int8_is_the_product_of_what_is_rounded(rows: int, width: int, channels: int, per: str) -> None:
    draw = torch.Generator().manual_seed(rows)
    layer, ends = nn.Linear(width, channels, bias=rows < 300), torch.tensor([[2.0]])
    if per == "channel":
        ends = ends + torch.rand(channels, 1, generator=draw)
    for c, row in enumerate(layer.weight.data):
        row.copy_(off_borders((width,), float(ends[c if len(ends) > 1 else 0]) / 127, draw))
    end = 2.0  # of either some are clipped
    x = off_borders((rows, width), end / 127, draw)
    made, slow = StaticLinear(layer, end, ends), product(x, layer, end, ends)
    found = made(x)
    assert np.abs(found.double().numpy() - slow).max() <= 2e-6 * np.abs(slow).max()
    assert torch.equal(found[rows // 2 :], made(x[rows // 2 :])) and torch.equal(made(x[None])[0], found)


def test_layers_that_see_or_hold_nothing() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    found = StaticLinear(layer, 0.0, torch.zeros(2, 1))(torch.zeros(4, 3))
    assert torch.allclose(found, layer.bias.expand(4, 2))


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_static_int8_goes_by_the_grids_of_the_imitation(per: str) -> None:
    """Each layer by the ends that FakeQuant finds for its input and its weight."""
    words = f"treatment.examples=4 treatment.calibration=percentile treatment.percentile=95 treatment.per={per}"
    trainee, made, fake = subject("transformer"), option(f"int8_static {words}"), option(f"fake_quant {words}")
    twin, batch, seen = subject("transformer"), batch_of(trainee), {}
    layers = examples.linears(twin)
    after(made, trainee)
    for name in layers:
        module = trainee.model.get_submodule(name)
        module.register_forward_hook(lambda _, x, y, name=name: seen.update({name: (x[0], y)}))
    answers(trainee, batch)
    ends = fake.ends(twin, layers)
    assert made.facts["ends"] == ends and set(seen) == set(layers)
    for name, (x, y) in seen.items():
        slow = product(x.flatten(0, -2), layers[name], ends[name], fake.end(layers[name].weight.detach()))
        off = np.abs(y.flatten(0, -2).double().numpy() - slow) > 1e-5 * np.abs(slow).max()
        assert off.mean() < 0.02, name  # what stands on a border may go either way


def test_static_int8_refuses_sums_that_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = subject("transformer")
    monkeypatch.setattr(StaticLinear, "forward", lambda self, x: x.new_full((2, 16), 32.0))
    with pytest.raises(ValueError, match="overflow") as caught:
        after(option("int8_static"), trainee)
    assert "\n" not in str(caught.value) and len(examples.linears(trainee)) == 14
    with pytest.raises(ValueError, match=r"treatment\.calibration: 'token'"):
        int8_static.Int8Static(calibration="token")
