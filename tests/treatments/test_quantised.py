"""Quantisation that is executed, trained through, or shared out between layers, against slow float64 twins."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lra.train.batches import stream
from lra.treatments import after, examples, facts, int8_static, straight
from lra.treatments.fake_quant import FakeQuant
from lra.treatments.int8_static import StaticLinear
from lra.treatments.qat import Qat
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
    assert trainee.model.state_dict()["head.2.weight"].is_quantized  # by which nobody keeps it for a plain tensor
    assert made.facts["weight_bytes"] == examples.in_bits(twin.model, layers, 8)
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
    trainee.acc.device = torch.device("cuda")
    with pytest.raises(ValueError, match="for CPUs, and the model is on cuda"):
        after(option("int8_static"), trainee)
    with pytest.raises(ValueError, match=r"treatment\.calibration: 'token'"):
        int8_static.Int8Static(calibration="token")


TINY = ("task.max_len=12", "task.by=5", "task.values=4", "train.batch_size=32")


def test_what_rounds_hands_its_gradient_on() -> None:
    """d loss is that of the product of rounded numbers, and stops where an input lies beyond its grid: in float64."""
    draw = torch.Generator().manual_seed(0)
    layer = nn.Linear(40, 7, bias=False).double()
    x, back = torch.randn(30, 40, generator=draw).double(), torch.randn(30, 7, generator=draw).double()
    grids, leaf, weight = FakeQuant(3), x.clone().requires_grad_(), layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", straight.Grid(grids.end, 3))
    layer.register_forward_pre_hook(partial(straight._given, end=1.5, bits=3))
    layer(leaf).backward(back)
    rounded = np.clip(np.rint(x.numpy() / 0.5), -3, 3) * 0.5
    steps = np.abs(weight.numpy()).max(1, keepdims=True) / 3
    inside = np.abs(x.numpy()) <= 1.5
    assert 0.05 < 1 - inside.mean() < 0.3
    slow = inside * (back.numpy() @ (np.rint(weight.numpy() / steps) * steps)), back.numpy().T @ rounded
    original = layer.parametrizations.weight.original
    for found, expected in zip((leaf.grad, original.grad), slow, strict=True):
        assert np.abs(found.numpy() - expected).max() < 1e-12
    assert torch.equal(original, weight)


def loss_of(trainee: Any) -> float:
    split = trainee.exam.split("valid")
    batch = trainee.exam.collate([split[i] for i in range(150)])
    return float(trainee.exam.loss(answers(trainee, batch), batch))


def test_training_through_quantisers_mends_what_rounding_breaks() -> None:
    """At 3 bits on a model that has learnt; as much training with nothing rounded does not."""
    trained = subject("transformer", *TINY)
    after(Qat(24, 120, 3e-3), trained)

    def treated(bits: int, steps: int) -> float:
        trainee = subject("transformer", *TINY)
        trainee.model.load_state_dict(trained.model.state_dict())
        made = Qat(bits, steps, 1e-3)
        made.grids.examples = 8
        after(made, trainee)
        for name in examples.linears(trainee):
            weight = trainee.model.get_submodule(name).weight.detach()
            assert all(len(row.unique()) <= 2**bits - 1 for row in weight) or bits > 3
        return loss_of(trainee)

    plain, rounded, tuned, control = loss_of(trained), treated(3, 0), treated(3, 25), treated(24, 25)
    assert rounded > plain + 0.01 and tuned < rounded - 0.2 * (rounded - plain)
    assert tuned - control < 0.9 * (rounded - plain)


def test_no_steps_are_the_imitation_and_24_bits_of_them_nothing() -> None:
    found, batch = {}, batch_of(subject("linear"))
    words = "treatment.examples=64"  # of which the ends are
    for name in (
        "qat treatment.steps=0",
        f"fake_quant treatment.bits=4 {words}",
        "qat treatment.steps=0 treatment.bits=24",
    ):
        found[name] = answers(after(option(name), subject("linear")), batch)
    first, second, third = found.values()
    plain = answers(subject("linear"), batch)
    assert torch.equal(first, second) and (third - plain).norm() < 0.05 * (first - plain).norm()  # what is clipped
    assert torch.equal(third.argmax(-1), plain.argmax(-1)) and not torch.allclose(first, plain, atol=1e-2)


class TrainAlone:
    """An exam that shows its train split and no other, and counts what is asked of it."""

    def __init__(self, exam: Any) -> None:
        self.exam, self.shown = exam, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["exam"], name)

    def split(self, name: str) -> Any:
        assert name == "train", f"{name} is looked at"
        return self.exam.split(name)

    def collate(self, drawn: Any) -> Any:
        self.shown.append(np.concatenate([e.documents[0] for e in drawn]))
        return self.exam.collate(drawn)


def test_training_is_of_the_train_split_by_a_seed_of_its_own() -> None:
    """Nothing else is looked at, what was drawn before is of no matter, and features drawn anew go on from where they
    stood."""
    weights, shown = [], []
    for seed in (0, 1):
        trainee = subject("performer", *TINY, "size.dropout=0.1", "model.mixer.redraw=10")
        trainee.model.train().head.append(nn.Dropout(0.3))  # of other hands, which draws from torch's generator
        for module in trainee.drawing:
            if hasattr(module, "at_step"):
                module.at_step(25)
        features = trainee.model.stack.layers[0].mixer.projection.clone()
        trainee.exam = TrainAlone(trainee.exam)
        torch.manual_seed(seed)
        made = Qat(4, 3, 1e-3)
        made.grids.examples = 2
        after(made, trainee)
        assert torch.equal(trainee.model.stack.layers[0].mixer.projection, features)
        weights.append(torch.cat([p.detach().flatten() for p in trainee.model.parameters()]))
        shown.append(trainee.exam.shown)
    spent = made.facts["training"]
    assert torch.equal(*weights) and spent["steps"] == 3 and spent["core_seconds"] > 0
    assert facts(made)["executed"] is False and 0.1 < facts(made)["linear_flops"] < 1
    own = stream(trainee.exam.split("train").lengths, 32, trainee.seed, endless=True)
    run = [
        trainee.exam.exam.collate([trainee.exam.split("train")[i] for i in next(own)]).tokens.flatten()
        for _ in range(3)
    ]
    assert all(not np.array_equal(a, b.numpy()) for a, b in zip(shown[0][-3:], run, strict=True))


def test_a_loss_that_is_not_finite_is_one_line() -> None:
    trainee = subject("transformer", *TINY)
    trainee.exam.loss = lambda *_: torch.tensor(float("nan"), requires_grad=True) * 1.0
    with pytest.raises(ValueError, match=r"treatment\.learning_rate: the loss is not finite at step 1 of 5"):
        after(Qat(4, 5), trainee)
