"""Each option on small models of several families: what it says of itself, and what holds of its answers."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from lra.machine.alone import Alone
from lra.root import CONFIGS
from lra.settings import build
from lra.train.trainee import Trainee
from lra.treatments import after, examples, facts, heads, importance, kmeans, neurons
from lra.treatments.fake_quant import FakeQuant, seen
from tests.help import composed

SIZES = "task=shift task.max_len=24 task.by=6 size.depth=2 size.dim=32 size.qkv_dim=32 size.mlp_dim=48 size.heads=4"
FAMILIES = ("performer", "fnet", "mamba2")
COMPILED = "compile treatment.backend=eager"
EXECUTED = ("identity", "packed", "bf16", COMPILED, "int8_dynamic treatment.by=torch", "int8_static", "heads", "layers",
            "neurons", "svd", "tokens")  # fmt: skip
IMITATED = ("fake_quant", "kmeans4", "magnitude")


@cache
def settings(model: str, *words: str) -> Any:
    return composed.settings(*SIZES.split(), f"model={model}", *words)


def subject(model: str, *words: str) -> Trainee:
    own = settings(model, *words)
    torch.manual_seed(3)
    exam = build.task(own)
    return Trainee(build.model(own, exam).eval(), exam, own.train, Alone(torch.device("cpu"), "float32"))


def option(words: str) -> Any:
    """Of a treatment's file, with what is said besides."""
    name, *rest = words.split()
    found = OmegaConf.merge(OmegaConf.load(CONFIGS / "treatment" / f"{name}.yaml"), OmegaConf.from_dotlist(rest))
    return build.instantiate(OmegaConf.to_container(found)["treatment"], "treatment")


def answers(trainee: Trainee, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return trainee.model(batch.tokens, batch.mask).float()


def batch_of(trainee: Trainee) -> Any:
    """Two examples, of which one has padding."""
    split = trainee.exam.split("valid")
    batch = trainee.exam.collate([split[0], split[1]])
    batch.mask[1, 15:] = False
    return batch


@pytest.mark.parametrize(
    ("model", "words"),
    [
        *(("transformer", w) for w in EXECUTED + IMITATED if w != COMPILED),
        ("linear", "bf16"),
        ("linear", "int8_dynamic treatment.by=torch"),
        ("linear", "int8_static"),
    ],
)
def test_two_calls_agree_and_leave_what_they_are_given(model: str, words: str) -> None:
    trainee, made = subject(model), option(words)
    batch = batch_of(trainee)
    plain = answers(trainee, batch)
    trainee = after(made, trainee)
    given = [t.clone() for t in batch]
    first, second = answers(trainee, batch), answers(trainee, batch)
    assert torch.equal(first, second) and all(torch.equal(a, b) for a, b in zip(given, batch, strict=True))
    assert torch.isfinite(first).all() and first.shape == plain.shape
    assert facts(made)["executed"] is (words in EXECUTED)
    near = {
        "identity": 0.0,
        "packed": 1e-5,
        COMPILED: 1e-5,
        "bf16": 0.1,
        "int8_dynamic treatment.by=torch": 0.1,
        "int8_static": 0.1,
    }
    off = float((first - plain)[batch.mask].abs().max() / plain.abs().max())
    assert off <= near.get(words, 2.0) and (off > 0 or words in ("identity", "packed", COMPILED))
    again = after(option(words), subject(model))
    assert torch.equal(answers(again, batch), first)  # by which a chain is done anew


@pytest.mark.parametrize("model", FAMILIES)
def test_other_families(model: str) -> None:
    """What a model lacks is a line, and what it has is done."""
    lacks = {"fnet": {"heads"}, "mamba2": {"heads"}}.get(model, set())
    exact = "fake_quant treatment.bits=24 treatment.calibration=token"
    for words in ("bf16", exact, "heads", "layers", "neurons", "svd", "magnitude"):
        trainee, name = subject(model), words.split()[0]
        batch = batch_of(trainee)
        plain = answers(trainee, batch)
        try:
            trainee = after(option(words), trainee)
        except ValueError as error:
            assert name in lacks and "\n" not in str(error)
            continue
        found = answers(trainee, batch)
        assert torch.isfinite(found).all()
        if name == "fake_quant":
            assert (found - plain).abs().max() <= 1e-5 * plain.abs().max()
        else:
            assert not torch.equal(found, plain)


def test_importance_is_the_slope_of_the_loss() -> None:
    """Central differences in float64, factor by factor, example by example."""
    trainee = subject("transformer")
    trainee.model.double()
    mixer, layer = trainee.model.stack.layers[1].mixer, trainee.model.stack.layers[0].mlp
    groups = {"head": (mixer.out, 4), "neuron": (layer.outer, layer.outer.in_features)}
    found = importance.importance(trainee, groups, 3)

    def loss(linear: nn.Linear, number: int, group: int, factor: float, batch: Any) -> float:
        width = linear.in_features // number
        kept = linear.weight.detach().clone()
        with torch.no_grad():
            linear.weight[:, group * width : (group + 1) * width] *= factor
            value = F.cross_entropy(trainee.model(batch.tokens, batch.mask).flatten(0, 1), batch.labels.flatten())
            linear.weight.copy_(kept)
        return float(value)

    for name, (linear, number) in groups.items():
        for group in range(0, number, max(1, number // 4)):
            slow = 0.0
            for batch in examples.alone(trainee, 3):
                up, down = (loss(linear, number, group, 1 + s * 1e-3, batch) for s in (1, -1))
                slow += abs(up - down) / 2e-3 / 3
            assert abs(float(found[name][group]) - slow) <= 1e-3 * max(slow, 1e-4), (name, group)


def test_the_least_important_heads_go_and_what_is_left_is_smaller() -> None:
    scores = {"a": torch.tensor([1.0, 0.1, 5.0, 0.2]), "b": torch.tensor([10.0, 9.0, 30.0, 0.1])}
    left = heads.kept(scores, 0.5)  # by layer: .195 .02 .976 .039 and .304 .273 .911 .003
    assert {n: h.tolist() for n, h in left.items()} == {"a": [2], "b": [0, 1, 2]}
    trainee = subject("transformer", "model.mixer.persistent=2")
    whole, batch = copy.deepcopy(trainee), batch_of(trainee)
    made = option("heads")
    after(made, trainee)
    keep = {int(n.split(".")[2]): h for n, h in made.facts["kept"].items()}
    assert made.facts["silenced"] == [] and sum(map(len, keep.values())) == 4
    for d, layer in enumerate(whole.model.stack.layers):
        width = layer.mixer.head_dim
        gone = [c for h in range(4) if h not in keep[d] for c in range(h * width, (h + 1) * width)]
        layer.mixer.out.weight.data[:, gone] = 0
        assert trainee.model.stack.layers[d].mixer.query.out_features == len(keep[d]) * width
    assert torch.allclose(answers(trainee, batch), answers(whole, batch), atol=1e-5)


def test_a_mixer_that_cannot_be_cut_is_silenced_and_says_so() -> None:
    trainee = subject("transformer", "model.mixer.conv_kernel=3")  # whose ends are told by a number of channels
    whole, batch, made = copy.deepcopy(trainee), batch_of(trainee), option("heads")
    after(made, trainee)
    assert made.facts["silenced"] == ["stack.layers.0.mixer", "stack.layers.1.mixer"] and not made.facts["executed"]
    for d in range(2):
        mixer, keep = whole.model.stack.layers[d].mixer, made.facts["kept"][f"stack.layers.{d}.mixer"]
        mixer.out.weight.data.unflatten(1, (4, -1))[:, [h for h in range(4) if h not in keep]] = 0
    assert torch.equal(answers(trainee, batch), answers(whole, batch))


def test_neurons_are_cut_where_they_do_least() -> None:
    trainee = subject("linear")
    layer = trainee.model.stack.layers[0].mlp
    layer.outer.weight.data[:, ::2] *= 1e-6  # half of them do nothing
    batch = batch_of(trainee)
    plain = answers(trainee, batch)
    name = next(n for n, m in neurons.feed_forwards(trainee.model).items() if m is layer)
    odd = layer.inner.weight.detach()[1::2].clone()
    made = option("neurons")
    after(made, trainee)
    assert made.facts["kept"][name] == 24 and torch.equal(layer.inner.weight, odd)
    assert answers(trainee, batch).shape == plain.shape


def test_every_other_layer_goes() -> None:
    trainee = subject("transformer", "size.depth=6")
    layers = list(trainee.model.stack.layers)
    for share, left in ((0.5, [1, 3, 5]), (0.25, [1, 2, 3, 5]), (0.34, [1, 3, 5])):
        trainee.model.stack.layers = nn.ModuleList(layers)
        after(option(f"layers treatment.share={share}"), trainee)
        assert [layers.index(m) for m in trainee.model.stack.layers] == left
    with pytest.raises(ValueError, match="has none left"):
        after(option("layers"), subject("transformer", "size.depth=1"))


def test_low_rank_is_the_best_of_its_rank() -> None:
    trainee = subject("linear")
    weights = {n: m.weight.detach().double().clone() for n, m in examples.linears(trainee).items()}
    made = option("svd treatment.share=0.6")
    after(made, trainee)
    for name, rank in made.facts["ranks"].items():
        first, second = trainee.model.get_submodule(name)
        values = torch.linalg.svdvals(weights[name])
        left = torch.linalg.matrix_norm(second.weight.double() @ first.weight.double() - weights[name])
        assert rank == first.out_features and torch.isclose(left, values[rank:].norm(), atol=1e-5)
        rows, columns = weights[name].shape
        assert rank * (rows + columns) <= 0.6 * rows * columns


def test_a_table_of_means() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (20, 30)).astype(np.float32)
    found = kmeans.clustered(weight, 3)
    values = np.unique(found)
    assert len(values) == 8
    for value in values:
        assert abs(weight[found == value].mean(dtype=float) - value) < 1e-6
    assert (np.abs(weight - found) <= np.abs(weight[..., None] - values).min(-1) + 1e-6).all()


def test_the_smallest_go() -> None:
    trainee = subject("transformer")
    before = {n: m.weight.detach().clone() for n, m in examples.linears(trainee).items()}
    after(option("magnitude treatment.share=0.3"), trainee)
    for name, layer in examples.linears(trainee).items():
        gone = layer.weight == 0
        assert gone.sum() == int(0.3 * gone.numel()) and torch.equal(layer.weight[~gone], before[name][~gone])
        assert before[name][gone].abs().max() <= before[name][~gone].abs().min()


def test_calibration_sees_real_tokens_of_training_examples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = subject("transformer")
    monkeypatch.setattr(trainee.exam, "pad_to", "max")
    layers, rows = examples.linears(trainee), []
    seen(trainee, layers, 3, lambda name, x: rows.append(x.shape[:-1].numel()))
    lengths = [int(b.mask.sum()) for b in examples.alone(trainee, 3)]
    assert set(rows) <= {*lengths, 1}
    made = FakeQuant(bits=8, examples=3)
    name, layer = next(iter(layers.items()))
    largest = 0.0
    hook = layer.register_forward_pre_hook(lambda _, x: rows.append(float(x[0].abs().max())))
    rows.clear()
    for batch in examples.alone(trainee, 3):
        examples.called(trainee, batch)
    hook.remove()
    largest = max(rows)
    assert made.ends(trainee, layers)[name] == largest


def test_fewer_bits_are_further_off_and_an_outlier_is_clipped_by_all_but_max() -> None:
    off = {}
    for bits in (2, 4, 8):
        trainee = subject("transformer")
        batch = batch_of(trainee)
        plain = answers(trainee, batch)
        off[bits] = float((answers(after(FakeQuant(bits, examples=8), trainee), batch) - plain).norm())
    assert off[2] > off[4] > off[8] > 0
    rules = {}
    trainee = subject("transformer")
    layers = dict(list(examples.linears(trainee).items())[-1:])
    for rule in ("max", "percentile", "mse", "kl"):
        made = FakeQuant(bits=4, calibration=rule, percentile=99, examples=8)
        rules[rule] = sum(made.ends(trainee, layers).values())
    assert rules["max"] > max(rules["percentile"], rules["mse"], rules["kl"])


def test_int8_says_what_it_is_bound_by(tmp_path: Path) -> None:
    trainee = subject("transformer")
    made = option("int8_dynamic treatment.by=torch")
    after(made, trainee)
    linear = made.facts["linear_flops"]
    assert 0.5 < linear < 1 and abs(made.facts["bound"] - 1 / (1 - linear)) < 1e-9 and made.facts["layers"] == 14
    pytest.importorskip("torchao")
    trainee = after(option("int8_dynamic"), subject("transformer"))
    batch = batch_of(trainee)
    assert torch.equal(answers(trainee, batch), answers(trainee, batch))
