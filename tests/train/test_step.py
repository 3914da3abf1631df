"""The one step, against a slow loop written out: parts, groups, extra losses, answers at positions."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.machine.alone import Alone
from lra.machine.device import accelerator
from lra.measure.child import prepared
from lra.measure.gauges import quiet, step_peak_bytes
from lra.settings.build import model, task
from lra.settings.schema import Train
from lra.tasks.base import NOT_ASKED, Example, Task
from lra.train.batches import dealt, feed
from lra.train.evaluate import evaluate
from lra.train.fit import fit
from lra.train.parts import Cut
from lra.train.step import step
from lra.train.trainee import Trainee
from tests.help import composed, tiny
from tests.help.few import others_slow, sequence_models

CPU = torch.device("cpu")


class Items:
    """Sequences in which some positions ask for the token before them, modulo 5."""

    def __init__(self, count: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.lengths = draw.integers(3, 12, count)
        self.labels = np.zeros(count, int)
        self.items = []
        for length in self.lengths:
            tokens = draw.integers(1, 9, length)
            label = np.where(draw.random(length) < 0.5, np.roll(tokens, 1) % 5, NOT_ASKED)
            label[0], label[-1] = NOT_ASKED, tokens[-2] % 5  # at least one is asked
            self.items.append(Example((tokens,), label))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        return self.items[index]


class Before(Task):
    vocab_size, num_classes, standard_len, symbols, answers = 9, 5, 12, "abcdefgh", "token"

    def load(self) -> dict[str, Items]:
        return {name: Items(count, i) for i, (name, count) in enumerate({"train": 64, "valid": 16, "test": 16}.items())}

    def identity(self) -> Any:
        return "before"


class Odd(nn.Module):
    """A mixer with two groups of parameters and a loss of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.slow, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for parameter in self.slow.parameters():
            parameter.lra = {"rate": 0.1, "decay": 0.0}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.slow(x) * mask[..., None]
        if self.training:
            self.extra_loss = 0.01 * y.square().mean()
        return self.out(y.roll(1, 1) + y)


def settings(tmp_path: Path, *words: str) -> Any:
    small = ["size.dim=16", "size.mlp_dim=16", "size.qkv_dim=16", "size.dropout=0", "size.attention_dropout=0"]
    return composed.settings(*tiny.words(tmp_path, *small, "train.grad_clip=1.0", "train.weight_decay=0.1", *words))


def made(tmp_path: Path, exam: Any, mixer: type | None = None, *words: str) -> tuple[Any, nn.Module]:
    """(settings, model in float64) that sit the exam."""
    what = settings(tmp_path, *words)
    if mixer is not None:
        what = replace(
            what, model={**what.model, "mixer": {"_target_": f"{__name__}.{mixer.__name__}", "_partial_": True}}
        )
    torch.manual_seed(0)
    return what, model(what, exam).double()


def batch_of(exam: Any, count: int = 8) -> Any:
    split = exam.split("train")
    return exam.collate([split[i] for i in range(count)])


def slow_step(net: nn.Module, batch: Any, train: Train, rate: float) -> None:
    """What a step is, without a helper: AdamW's first update, written out (Loshchilov and Hutter 2019, alg. 2)."""
    output = net(batch.tokens, batch.mask)
    log_p = output.log_softmax(-1)
    if batch.labels.dim() == 1:
        loss = -log_p[torch.arange(len(batch.labels)), batch.labels].mean()
    else:
        chosen = [-log_p[i, j, batch.labels[i, j]] for i, j in (batch.labels != NOT_ASKED).nonzero()]
        loss = torch.stack(chosen).mean()
    for module in net.modules():
        if getattr(module, "extra_loss", None) is not None:
            loss = loss + module.extra_loss
    named = list(net.named_parameters())
    grads = torch.autograd.grad(loss, [p for _, p in named])
    norm = torch.sqrt(sum(g.square().sum() for g in grads))
    with torch.no_grad():
        for (_, p), g in zip(named, grads, strict=True):
            g = g * torch.clamp(train.grad_clip / (norm + 1e-6), max=1.0)
            tag = getattr(p, "lra", {})
            own, decay = rate * tag.get("rate", 1.0), tag.get("decay", train.weight_decay)
            p.mul_(1 - own * decay).sub_(own * g / (g.abs() + train.eps))


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("mixer", [None, Odd])
def test_a_step_is_what_is_written_out(tmp_path: Path, parts: int, kind: str, mixer: type | None) -> None:
    exam = Before("before", 12) if kind == "token" else task(settings(tmp_path))
    what, net = made(tmp_path, exam, mixer)
    twin, batch = copy.deepcopy(net), batch_of(exam)
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        other.__dict__.update(one.__dict__)  # deepcopy leaves attributes of parameters behind
    trainee = Trainee(net.train(), exam, what.train, Alone(CPU, "float32"))
    # An extra loss is a mean over a part's positions: parts of equal counts of rows weigh them as the whole does.
    step(trainee, dealt(batch, parts))
    slow_step(twin.train(), batch, what.train, what.train.learning_rate)
    unequal = mixer is Odd and kind == "token" and parts > 1  # there parts count by their answers
    for (name, a), b in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=5e-3 if unequal else 1e-7), name
        assert a.grad is None


def test_groups_follow_their_tags(tmp_path: Path) -> None:
    exam = task(settings(tmp_path))
    what, net = made(tmp_path, exam, Odd)
    (usual, slow) = sorted(Trainee(net, exam, what.train, Alone(CPU, "float32")).groups(), key=lambda g: -g["rate"])
    assert (slow["rate"], slow["decay"], slow["tensors"]) == (0.1, 0.0, 2 * what.model["depth"])
    assert (usual["rate"], usual["decay"]) == (1.0, 0.1) and all(".slow." in name for name in slow["names"])
    next(net.parameters()).lra = {"rat": 1}
    with pytest.raises(ValueError, match="rat is not one of rate, decay"):
        Trainee(net, exam, what.train, Alone(CPU, "float32"))


def test_an_extra_loss_is_not_reported_and_not_left_over(tmp_path: Path) -> None:
    exam = task(settings(tmp_path))
    what, net = made(tmp_path, exam, Odd)
    batch = batch_of(exam)
    trainee = Trainee(net.train(), exam, what.train, Alone(CPU, "float32"))
    with torch.no_grad():
        alone = F.cross_entropy(net(batch.tokens, batch.mask), batch.labels)
        extra = sum(m.extra_loss for m in net.modules() if getattr(m, "extra_loss", None) is not None)
    step(trainee, dealt(batch))
    assert torch.allclose(trainee.loss.double(), alone) and torch.allclose(trainee.extra.double(), extra)
    assert all(getattr(m, "extra_loss", None) is None for m in net.modules())


def test_an_exam_with_answers_at_positions_is_trained_and_scored(tmp_path: Path) -> None:
    exam = Before("before", 12)
    words = ("train.steps=60", "train.eval_every=30", "train.learning_rate=1e-2", "train.batch_size=16")
    what = settings(tmp_path, *words)
    torch.manual_seed(0)
    net = model(what, exam)
    acc = accelerator("cpu", "float32")
    result = fit(Trainee(net, exam, what.train, acc), what)
    split = exam.split("test")
    score = evaluate(net, exam, "test", what, acc)
    right, asked = 0, []
    with torch.no_grad():
        for i in range(len(split)):
            batch = exam.collate([split[i]])
            answers = net.eval()(batch.tokens, batch.mask).argmax(-1)[0]
            where = np.flatnonzero(split[i].label != NOT_ASKED)
            right += sum(int(answers[j]) == split[i].label[j] for j in where)
            asked += [i] * len(where)
    assert score.items == len(asked) and score.clusters.tolist() == asked
    assert score.accuracy == pytest.approx(right / len(asked)) and result.best_accuracy > 0.3


def test_an_exam_with_answers_at_positions_in_parts(tmp_path: Path) -> None:
    """A part counts by how many answers it is asked for."""
    exam = Before("before", 12)
    what, net = made(tmp_path, exam)
    split, places = exam.split("train"), np.arange(8)
    batch = exam.collate([split[i] for i in places])
    F.cross_entropy(net(batch.tokens, batch.mask).flatten(0, 1), batch.labels.flatten()).backward()
    whole = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    found: dict[str, Tensor] = {}
    trainee = Trainee(net, exam, replace(what.train, grad_clip=None), Alone(CPU, "float32"))
    trainee.optimizer.step = lambda: found.update(
        {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    )
    step(trainee, next(feed(exam, split, [places], Cut(count=3), (0, 1), 0, False)))
    assert found.keys() == whole.keys() and trainee.steps == 1
    for name, grad in whole.items():
        assert torch.allclose(found[name], grad, rtol=1e-5, atol=1e-7), name  # losses are taken in float32


class Twin(Alone):
    """One of two processes, which counts what the other would."""

    num_processes = 2

    def __init__(self, total: int) -> None:
        super().__init__(CPU, "float32")
        self.total = total

    def reduce(self, value: Tensor, how: str) -> Tensor:
        assert how == "sum" and 0 < value < self.total
        return torch.tensor(self.total)


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_processes_make_the_step_of_one(tmp_path: Path, kind: str) -> None:
    """The mean of their gradients, which is what DistributedDataParallel takes, is that of the whole batch."""
    exam = Before("before", 12) if kind == "token" else task(settings(tmp_path))
    what, net = made(tmp_path, exam)
    split, places = exam.split("train"), np.arange(9)
    found = []
    for rank, processes in ((0, 1), (0, 2), (1, 2)):
        parts = next(feed(exam, split, [places], Cut(count=2), (rank, processes), 0, False))
        whole = exam.collate([split[i] for i in places]).asked
        acc = Alone(CPU, "float32") if processes == 1 else Twin(whole)
        trainee = Trainee(net, exam, replace(what.train, grad_clip=None), acc)
        grads: list[Tensor] = []
        trainee.optimizer.step = lambda grads=grads: grads.extend(p.grad.clone() for p in net.parameters())
        step(trainee, parts, 9 if kind == "sequence" else None)
        found.append(torch.cat([g.flatten() for g in grads]))
    one, *two = found
    assert torch.allclose(sum(two) / 2, one, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_measured_peak_is_the_trained_one(tmp_path: Path, parts: int) -> None:
    """The step that is measured, and the one that training takes of a batch of the same shape."""
    what = settings(tmp_path, f"train.accumulate={parts}", "train.label_smoothing=0.1", "train.batch_size=32")
    bench = prepared(what)
    bench.parent = os.getppid()
    exam = task(what)
    torch.manual_seed(0)
    trainee = Trainee(model(what, exam), exam, what.train, accelerator("cpu", "float32"))
    batch = exam.synthetic(32)
    cut = dealt(batch, parts)
    peaks = []
    for run in (bench.step, lambda: step(trainee, cut, 32)):
        run()
        run()
        with quiet():
            peaks.append(step_peak_bytes(run))
    assert peaks[0] == peaks[1] > 0
    assert len(bench.parts) == parts


@pytest.mark.parametrize("name", others_slow(sequence_models()))
def test_every_model_takes_a_step_in_bf16(tmp_path: Path, name: str) -> None:
    """Custom backward passes meet mixed types there."""
    what = settings(tmp_path, f"model={name}", "dtype=bf16")
    exam = task(what)
    torch.manual_seed(0)
    trainee = Trainee(model(what, exam).train(), exam, what.train, Alone(CPU, "bf16"))
    before = [p.detach().clone() for p in trainee.parameters()]
    step(trainee, dealt(batch_of(exam)))
    assert torch.isfinite(trainee.loss) and all(torch.isfinite(p).all() for p in trainee.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(trainee.parameters(), before, strict=True))
