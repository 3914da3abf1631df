"""Products with the Hessian by central differences against double differentiation of slow twins, and what is made of
them: sharpness, and bits of each layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lra.treatments import after, curvature, examples, mixed
from lra.treatments.mixed import Mixed
from tests.help.paper import patterned, wake
from tests.models import test_linear, test_local, test_longformer, test_performer, test_reformer
from tests.treatments.test_options import answers, batch_of, option, subject

SMALL = ("task.max_len=12", "task.by=5", "task.values=4", "size.dim=12", "size.qkv_dim=12", "size.mlp_dim=10",
         "size.heads=3")  # fmt: skip
OPTIONS = {
    "performer": ["model.mixer.features=16"],
    "local": ["model.mixer.block=5"],
    "longformer": ["model.mixer.window=4"],
    "reformer": ["model.mixer.chunk=4"],
}


def slow_mixer(name: str, mixer: Any, length: int) -> None:
    """Put in the place of what the mixer does its definition, which can be differentiated twice."""
    w = dict(mixer.named_parameters())
    if name == "linear":
        mixer.attend = test_linear.dense
    elif name == "performer":
        mixer.attend = partial(test_performer.favor, layer=mixer)
    elif name == "local":
        mixer.forward = partial(patterned(3, test_local.sees(length, 3, 5, 0)), w)
    elif name == "longformer":
        slow = partial(test_longformer.two_projections, window=4, dilation=[1] * 3, global_tokens=1, rotary=False)
        mixer.forward = partial(slow, w)
    elif name == "reformer":
        mixer.forward = partial(test_reformer.dense, w, layer=mixer)


def slow_model(name: str, model: Any, length: int) -> None:
    for layer in model.stack.layers:
        slow_mixer(name, layer.mixer, length)
    if name == "reformer":
        stack = model.stack

        def plain(x: Tensor, mask: Tensor) -> Tensor:
            one = two = x  # Gomez et al. 2017, eq. 8
            for layer in stack.layers:
                one = one + layer.mix(two, mask)
                two = two + layer.feed(one, 0)
            return stack.norm((one + two) / 2)

        stack.forward = plain


def twice(loss: Callable[[], Tensor], weights: list[Tensor], v: list[Tensor]) -> list[Tensor]:
    """H v by differentiating the gradient."""
    with sdpa_kernel(SDPBackend.MATH):
        gradients = torch.autograd.grad(loss(), weights, create_graph=True)
        along = sum((g * d).sum() for g, d in zip(gradients, v, strict=True))
        return list(torch.autograd.grad(along, weights, materialize_grads=True))


def double(name: str) -> tuple[Any, Any]:
    trainee = subject(name, *SMALL, *OPTIONS.get(name, []))
    trainee.model.double().eval()
    wake(trainee.model, by=0.1)
    return trainee, batch_of(trainee)


@pytest.mark.parametrize(
    "name",
    [
        "transformer",
        "linear",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("performer", "local", "longformer", "reformer")),
    ],
)
def test_products_with_the_hessian_are_those_of_a_twin_differentiated_twice(name: str) -> None:
    (trainee, batch), (twin, _) = double(name), double(name)
    slow_model(name, twin.model, batch.tokens.shape[-1])

    def loss(of: Any) -> Tensor:
        return of.exam.loss(of.model(batch.tokens, batch.mask), batch)

    assert torch.isclose(loss(trainee), loss(twin), rtol=1e-7)
    draw = torch.Generator().manual_seed(0)
    for names in (["stack.layers.0.mixer.query", "stack.layers.0.mlp.inner"], ["stack.layers.1.mixer.value"]):
        weights, others = ([t.model.get_submodule(n).weight for n in names] for t in (trainee, twin))
        before = [w.detach().clone() for w in weights]
        v = [torch.randn(w.shape, generator=draw, dtype=w.dtype) for w in weights]
        found = curvature.along(lambda: loss(trainee), weights, v)
        slow = twice(lambda: loss(twin), others, v)
        off = curvature.length([a - b for a, b in zip(found, slow, strict=True)]) / curvature.length(slow)
        assert off < (1e-4 if name == "reformer" else 1e-8), off  # whose stack rounds what it hands on to 2^-30
        assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
        if name != "transformer":  # why it is not taken by differentiating twice
            wrong = twice(lambda: loss(trainee), weights, v)
            gap = [a - b for a, b in zip(wrong, slow, strict=True)]
            assert curvature.length(gap) > 0.05 * curvature.length(slow)


def test_the_eigenvalue_of_largest_size_with_its_sign() -> None:
    draw = torch.Generator().manual_seed(1)
    turned, _ = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=torch.float64))
    for values in ([-9.0, 5.0, *[0.5] * 10], [7.0, -5.0, *[0.1] * 10], [0.0] * 12):
        bent = turned @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turned.T
        weights = [torch.randn(n, generator=draw, dtype=torch.float64, requires_grad=True) for n in (5, 7)]

        def loss(weights: list[Tensor] = weights, bent: Tensor = bent) -> Tensor:
            w = torch.cat(weights)
            return w @ bent @ w / 2 + w.sum()

        assert abs(curvature.top(loss, weights, draw) - values[0]) <= 0.02 * abs(values[0]) + 1e-6


def test_sharpness_is_the_mean_and_the_deviation_over_parts_of_the_data() -> None:
    """Against the whole Hessian of one layer, example by example."""
    trainee, _ = double("transformer")
    layer, kept = trainee.model.head[2], copy_of(trainee.model)
    found = curvature.sharpness(trainee, {"head.2": {"head.2": layer}}, 4)
    assert all(torch.equal(a, b) for a, b in zip(kept, copy_of(trainee.model), strict=True))
    values = []
    for batch in examples.alone(trainee, 4):

        def loss(batch: Any = batch) -> Tensor:
            return trainee.exam.loss(trainee.model(batch.tokens, batch.mask), batch)

        basis = torch.eye(layer.weight.numel(), dtype=torch.float64).view(-1, *layer.weight.shape)
        rows = [twice(loss, [layer.weight], [v])[0].flatten() for v in basis]
        spectrum = torch.linalg.eigvalsh(torch.stack(rows))
        values.append(float(max(spectrum, key=abs)))
    slow = abs(fmean(values)) + pstdev(values)
    assert pstdev(values) > 0.02 * slow and abs(found["head.2"] - slow) < 0.05 * slow


def copy_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("sizes", [[10] * 4, [300, 70, 300, 11], [7, 200, 31, 64]])
def test_bits_go_where_they_take_most_off(sizes: list[int]) -> None:
    """As a search through all has it, and on average no more than is asked for."""
    draw = np.random.default_rng(0)
    for mean in (2.0, 2.75, 3.0, 4.3):
        sharp = draw.exponential(1, 4) * 10.0 ** draw.integers(-2, 3, 4)
        lost = [[s * n * 4.0**-b for b in range(2, 9)] for s, n in zip(sharp, sizes, strict=True)]
        found = mixed.shared(sizes, lost, mean)
        may = (b for b in itertools.product(range(2, 9), repeat=4) if np.dot(b, sizes) <= mean * sum(sizes))
        best = min(sum(row[b - 2] for row, b in zip(lost, bits, strict=True)) for bits in may)
        assert np.dot(found, sizes) <= mean * sum(sizes)
        assert np.isclose(sum(row[b - 2] for row, b in zip(lost, found, strict=True)), best)


def test_neighbours_share_a_range() -> None:
    weight = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    found = mixed.ends(weight, 3).flatten().tolist()
    slow = [max(abs(float(v)) for row in weight[i // 3 * 3 : i // 3 * 3 + 3] for v in row) for i in range(8)]
    assert found == slow and len(set(found)) == 3


def test_a_sharper_layer_has_more_bits_and_all_are_on_their_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp = {"stack.layers.0": 1.0, "stack.layers.1": 1e4, "head.0": 1.0, "head.2": 1.0}
    monkeypatch.setattr(mixed, "sharpness", lambda trainee, blocks, count: sharp if list(blocks) == list(sharp) else {})
    trainee, made = subject("transformer", *SMALL), Mixed(3, group=4, examples=4)
    plain = {n: m.weight.detach().clone() for n, m in examples.linears(trainee).items()}
    after(made, trainee)
    bits, sizes = made.facts["bits"], {}
    assert bits["stack.layers.1"] > 3 > bits["stack.layers.0"] and made.facts["executed"] is False
    for name, layer in examples.linears(trainee).items():
        own = bits[next(b for b in bits if name.startswith(b))]
        sizes[name] = plain[name].numel() * own
        for rows, before in zip(layer.weight.split(4), plain[name].split(4), strict=True):
            steps = rows / (before.abs().max() / (2 ** (own - 1) - 1))
            assert (steps - steps.round()).abs().max() < 1e-4 and (rows - before).abs().max() > 0
    mean = sum(sizes.values()) / sum(w.numel() for w in plain.values())
    assert np.isclose(made.facts["mean_bits"], mean) and 2.7 < mean <= 3


def test_mixed_twice_is_the_same_and_24_bits_change_no_prediction() -> None:
    words = "treatment.examples=4"
    found = []
    for _ in range(2):
        trainee = subject("linear", *SMALL)
        batch, made = batch_of(trainee), option(f"mixed {words}")
        found.append(answers(after(made, trainee), batch))
    assert torch.equal(*found) and min(made.facts["sharpness"].values()) > 0
    plain = answers(subject("linear", *SMALL), batch)
    trainee = after(option(f"mixed {words} treatment.bits=24"), subject("linear", *SMALL))
    near = answers(trainee, batch)
    assert torch.equal(near.argmax(-1), plain.argmax(-1)) and (near - plain).norm() < 0.1 * (found[0] - plain).norm()
    assert not torch.equal(found[0], plain)
    spent = option(f"mixed {words} treatment.steps=2")
    tuned = answers(after(spent, subject("linear", *SMALL)), batch)
    assert spent.facts["training"]["steps"] == 2 and not torch.equal(tuned, found[0])


@pytest.mark.parametrize(
    ("field", "value"), [("bits", 1.5), ("bits", True), ("group", 0), ("examples", 0), ("steps", -1), ("steps", True),
                         ("learning_rate", 0)]
)  # fmt: skip
def test_bad_values(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"treatment\.{field}: {value!r} is not") as caught:
        Mixed(**{field: value})
    assert "\n" not in str(caught.value)
