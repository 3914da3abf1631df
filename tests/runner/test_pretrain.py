"""Pretraining on a task's own inputs: what is asked for, what it reads, and that it goes on where it was stopped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lra import treatments
from lra.errors import UserError
from lra.machine.alone import Alone
from lra.machine.device import seed_everything
from lra.record import store
from lra.runner.run import recorded
from lra.settings import build, compose
from lra.tasks.base import NOT_ASKED, Ragged
from lra.train.trainee import Trainee
from lra.treatments.inputs import Guess
from lra.treatments.pretrain import Predictor, Pretrain, Probe, sees_ahead
from tests.help import composed, tiny
from tests.runner.test_resume import WORDS, flat, stopped

PRETRAIN = ("treatment=pretrain", "treatment.steps=6")


class Exam:
    """Documents drawn by a rule: a token is the one four places before it, which no rule of two neighbours sees."""

    name, vocab_size, num_classes, max_len, documents = "periods", 9, 2, 24, 1
    answers, pad_to, pad_multiple = "sequence", "longest", 1

    def __init__(self, documents: int = 1) -> None:
        self.documents, self.asked = documents, []

    def split(self, name: str) -> Any:
        self.asked.append(name)
        draw = np.random.default_rng(len(name))
        count = 200 if name == "train" else 60
        lengths = draw.integers(9, self.max_len + 1, count * self.documents)
        rows = [np.tile(draw.integers(1, 9, 4), 6)[:n] for n in lengths]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Ragged(np.concatenate(rows), offsets, draw.integers(0, 2, count), self.max_len, self.documents)


def exam_of(objective: str = "masked", exam: Any = None, seed: int = 0, share: float = 0.2) -> Guess:
    return Guess(exam or Exam(), objective, share, copies=3, seed=seed)


def test_masked_asks_for_what_it_hides_and_the_law_of_it() -> None:
    exam = exam_of()
    split, plain = exam.split("train"), Exam().split("train")
    assert len(split) == 3 * len(plain) and len(exam.split("valid")) == 60
    shares = []
    for i in range(len(split)):
        (tokens,), labels = split[i]
        asked = labels != NOT_ASKED
        whole = plain[i % len(plain)].documents[0]
        assert asked.any() and (tokens[asked] == exam.hidden).all() and exam.hidden == 9
        assert np.array_equal(np.where(asked, labels, tokens), whole)
        shares.append(asked.mean())
    assert np.mean(shares) == pytest.approx(0.2, abs=0.02)
    again = exam_of().split("train")
    assert all(np.array_equal(again[i].label, split[i].label) for i in (0, 300, 599))
    assert not np.array_equal(split[0].label, split[200].label), "the same document, other tokens hidden"
    assert not all(np.array_equal(exam_of(seed=1).split("train")[i].label, split[i].label) for i in range(20))


def test_causal_asks_for_the_next_token_and_documents_stand_alone() -> None:
    exam = exam_of("causal", Exam(documents=2))
    split, plain = exam.split("train"), Exam(documents=2).split("train")
    assert len(split) == 400 and exam.hidden is None
    for i in (0, 1, 399):
        (tokens,), labels = split[i]
        assert np.array_equal(tokens, plain[i // 2].documents[i % 2])
        assert np.array_equal(labels[:-1], tokens[1:]) and labels[-1] == NOT_ASKED


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_the_rule_of_two_neighbours_is_that_of_counts(objective: str) -> None:
    """Against the same rule with dictionaries, a token at a time."""
    exam = exam_of(objective)
    sides = [-1, 1, -2, 2] if objective == "masked" else [-1, -2]
    train = [exam.split("train").document(i) for i in range(200)]
    best = math.inf
    for weight in (0.5, 2.0, 8.0, 32.0):
        losses = {n: [] for n in range(len(sides) + 1)}
        seen: dict[tuple, int] = {}

        def around(tokens: np.ndarray, at: int, n: int) -> tuple:
            return tuple(int(tokens[at + s]) if 0 <= at + s < len(tokens) else -1 for s in sides[:n])

        for tokens in train:
            for at in range(len(tokens)):
                for n in range(len(sides) + 1):
                    for key in ((n, around(tokens, at, n)), (n, around(tokens, at, n), int(tokens[at]))):
                        seen[key] = seen.get(key, 0) + 1
        for i in range(60):
            tokens, labels = exam.split("valid").document(i), exam.split("valid")[i].label
            for at in np.flatnonzero(labels != NOT_ASKED) + (objective == "causal"):
                p = 1 / 9
                for n in range(len(sides) + 1):
                    near = around(tokens, at, n)
                    p = (seen.get((n, near, int(tokens[at])), 0) + weight * p) / (seen.get((n, near), 0) + weight)
                    losses[n].append(-math.log(p))
        best = min(best, *(float(np.mean(each)) for each in losses.values()))
    assert exam.near() == pytest.approx(best, rel=1e-9)


def trainee_of(*words: str, treatment: Pretrain | None = None, exam: Any = None) -> tuple[Any, Any]:
    settings = composed.settings("task=listops", "size.dim=32", "size.qkv_dim=32", "train.batch_size=16", *words)
    settings = replace(settings, train=replace(settings.train, warmup_steps=0))
    exam = exam or Exam()
    seed_everything(0)
    model = build.model(settings, exam)
    return Trainee(model, exam, settings.train, Alone(torch.device("cpu"), "float32")), settings


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("masked", ("model=transformer",)),
        pytest.param("causal", ("model=transformer", "model.mixer.causal=true"), marks=pytest.mark.slow),
    ],
)
def test_it_learns_what_no_rule_of_neighbours_can(objective: str, words: tuple[str, ...]) -> None:
    trainee, settings = trainee_of(*words)
    told: dict[str, Any] = {}
    head = [p.clone() for p in trainee.model.head.parameters()]
    going = treatments.Going(settings, tell=told.update)
    out = treatments.before(Pretrain(objective, steps=250, learning_rate=5e-3), trainee, going)
    assert told["loss_valid"] < told["near_valid"] - 0.2, told
    assert told["steps"] == 250 and told["examples"] == 250 * 16 and told["core_seconds"] > 0
    assert out.model is trainee.model and out is not trainee and not out.optimizer.state_dict()["state"]
    assert all(torch.equal(a, b) for a, b in zip(out.model.head.parameters(), head, strict=True))
    assert not out.model.embedding._forward_hooks and set(trainee.exam.asked) == {"train", "valid"}


def test_what_is_hidden_reaches_nobody() -> None:
    """Neither the token under a hidden place nor one in the padding moves an answer; a shown one does."""
    trainee, _ = trainee_of("model=transformer", "task.max_len=24")
    net = Predictor(trainee.model, exam_of()).eval()
    torch.nn.init.normal_(net.vector)
    tokens, mask = torch.randint(1, 9, (2, 12)), torch.ones(2, 12, dtype=torch.bool)
    mask[1, 9:] = False
    tokens[:, 3] = 9
    y = net(tokens, mask)
    assert y.shape == (2, 12, 9)
    other = tokens.clone()
    other[1, 9:] = 9
    assert torch.allclose(net(other, mask)[mask], y[mask], atol=1e-6)
    other[:, 5] = other[:, 5] % 8 + 1
    assert not torch.allclose(net(other, mask)[:, 3], y[:, 3], atol=1e-4)
    with torch.no_grad():
        trainee.model.embedding.weight[0] += 5  # the padding id's row is not what stands in a hidden place
    assert torch.allclose(net(tokens, mask)[mask], y[mask], atol=1e-6)
    net.release()


def test_a_probe_trains_a_linear_classifier_alone_on_the_middle_layer() -> None:
    trainee, _ = trainee_of("model=transformer", "size.depth=4", "size.dropout=0.2")
    model = trainee.model
    probe = Probe(model, trainee.exam).train()
    tokens, mask = torch.randint(1, 9, (3, 12)), torch.ones(3, 12, dtype=torch.bool)
    mask[1, 5:] = False
    seen: list[torch.Tensor] = []
    hook = model.stack.layers[1].register_forward_hook(lambda m, a, y: seen.append(y))
    y = probe(tokens, mask)
    hook.remove()
    x = torch.stack([row[real].mean(0) for row, real in zip(seen[0], mask, strict=True)])
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(y, x @ probe.head.weight.T + probe.head.bias)
    y.sum().backward()
    assert {n for n, p in probe.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("words", "pretrain", "says"),
    [
        (("model=performer",), {"objective": "causal"}, "treatment.objective: causal asks for a model in which no"),
        (("model=transformer",), {"steps": None, "core_minutes": 2.0}, "treatment.core_minutes: 2 hold no step"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: tuple[str, ...], pretrain: dict[str, Any], says: str) -> None:
    trainee, settings = trainee_of(*words)
    with pytest.raises(UserError) as error:
        treatments.before(Pretrain(**pretrain), trainee, treatments.Going(settings))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("objective=next", "treatment.objective: 'next' is not one of masked, causal"),
        ("use=both", "treatment.use: 'both' is not one of finetune, probe"),
        ("share=1", "treatment.share: 1 is not in (0, 1)"),
        ("steps=null", "treatment.steps: takes a number where treatment.core_minutes is null"),
        ("steps=0", "treatment.steps: 0 is not above 0"),
    ],
)
def test_bad_settings(words: str, says: str) -> None:
    what = compose.config(["task=listops", "treatment=pretrain", f"treatment.{words}"])
    with pytest.raises(UserError) as error:
        build.instantiate(what.treatment, "treatment")
    assert says in str(error.value)


def test_who_sees_ahead() -> None:
    for words, ahead in (
        (("model=transformer",), True), (("model=lstm",), True), (("model=identity",), False),
        (("model=linear", "model.mixer.causal=true"), False),
    ):  # fmt: skip
        trainee, _ = trainee_of(*words)
        assert sees_ahead(trainee.model, trainee.exam) is ahead, words


@pytest.mark.parametrize(
    ("at", "use"),
    [
        (4, "finetune"),
        pytest.param(9, "finetune", marks=pytest.mark.slow),
        pytest.param(9, "probe", marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_from_either_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, use: str) -> None:
    """Stopped at a step of pretraining, or of training behind it: the record of a run that was never stopped."""
    words = (*PRETRAIN, f"treatment.use={use}", "checkpoint_every=0")
    row = stopped(tmp_path, monkeypatch, at, *words)
    assert row["step"] == at and row["steps"] == 6 + 7
    again = recorded(compose.config(settings_words(tmp_path, "results", *words)))
    whole = recorded(compose.config(settings_words(tmp_path, "other", *words)))
    assert again.status == whole.status == "ok"
    assert [(s["from"], s["to"]) for s in again.segments] == [(0, at), (at, 13)]
    clocks = ("seconds", "core_seconds", "pace")
    for one in (again, whole):
        assert all(one.pretraining.pop(clock) is not None for clock in clocks[:2])
        one.pretraining.pop("pace")
    first, second = flat(again), flat(whole)
    assert {k for k in first if first[k] != second[k]} == set()
    assert again.pretraining["steps"] == 6 and again.steps_done == 7


def settings_words(tmp_path: Path, results: str, *more: str) -> list[str]:
    usual = [w for w in tiny.words(tmp_path, "model=performer", *WORDS) if not w.startswith("results_dir")]
    return [*usual, f"results_dir={tmp_path / results}", *more]


def test_from_scratch_and_pretrained_are_two_experiments(tmp_path: Path) -> None:
    found = [recorded(compose.config(settings_words(tmp_path, "r", *more))) for more in ((), PRETRAIN)]
    scratch, pretrained = found
    assert scratch.config_hash != pretrained.config_hash and scratch.pretraining == {}
    assert pretrained.variant[-2:] == ["treatment=pretrain", "treatment.steps=6"]
    assert len(list(store.find(tmp_path / "r"))) >= 2
