"""Training beside a teacher: the loss and its definition, which rows are drawn, parts of a batch, a whole run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lra import treatments
from lra.errors import UserError
from lra.models.parts.chance import Chance, tell
from lra.runner.run import recorded
from lra.settings import build
from lra.settings.compose import config
from lra.tasks.base import NOT_ASKED
from lra.train.trainee import Trainee
from lra.treatments.distil import Distil, Taught, last_mixer
from lra.treatments.relations import relations, rows_of, soft
from tests.help import treated
from tests.treatments.test_options import batch_of, settings, subject


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def relation(a: Tensor, i: int, heads: int, h: int) -> Tensor:
    """Row i of softmax(a a^T / sqrt(E)) of one head, a (L, width) of real tokens alone."""
    width = a.shape[1] // heads
    part = a[:, h * width : (h + 1) * width]
    scores = torch.stack([(part[i] * part[j]).sum() / math.sqrt(width) for j in range(len(a))])
    return scores.exp() / scores.exp().sum()


def slow(teacher: Any, student: Any, mask: Tensor, heads: int, rows: Tensor) -> Tensor:
    """relations(), one number at a time."""
    out = []
    for b in range(len(mask)):
        real = mask[b].nonzero().flatten().tolist()
        drawn = [real.index(r) for r in rows[b].tolist() if r in real]
        total = torch.zeros((), dtype=torch.float64)
        for t, s in zip(teacher, student, strict=True):
            for h in range(heads):
                for i in drawn:
                    p, q = relation(t[b, real], i, heads, h), relation(s[b, real], i, heads, h)
                    total = total + (p * (p / q).log()).sum() / heads / len(drawn)
        out.append(total)
    return torch.stack(out)


def test_relations_are_what_they_are_defined_to_be() -> None:
    draw = torch.Generator().manual_seed(0)
    teacher = tuple(torch.randn(2, 70, 24, dtype=torch.float64, generator=draw) for _ in range(3))
    student = [torch.randn(2, 70, width, dtype=torch.float64, generator=draw).requires_grad_() for width in (12, 12, 6)]
    mask = torch.ones(2, 70, dtype=torch.bool)
    mask[1, 5:] = False
    mask[1, 1] = False
    rows = torch.stack([torch.tensor([3, 69, 66, 0, 41, 7]), torch.tensor([4, 0, 2, 3, 5, 6])])
    found, twin = (f(teacher, student, mask, 3, rows) for f in (relations, slow))
    torch.testing.assert_close(found, twin, rtol=1e-10, atol=1e-12)
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    grads = [torch.autograd.grad((each * weight).sum(), student) for each in (found, twin)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-12)
    same = relations(teacher, teacher, mask, 3, rows)
    assert same.abs().max() < 1e-12 and (found > 0.01).all()


def test_soft_answers() -> None:
    a, b = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[0.0, 1.0, 0.0]])
    p, q = ([math.exp(v / 2) / sum(math.exp(w / 2) for w in x[0]) for v in x[0]] for x in (a, b))
    assert float(soft(a, b, 2.0)) == pytest.approx(4 * kl(p, q), rel=1e-5)


def test_rows_are_drawn_alike_and_follow_the_example_alone() -> None:
    chance, mask = Chance(), torch.ones(400, 12, dtype=torch.bool)
    mask[:, 9:] = False
    tell([chance], 5, 7, torch.arange(400))
    rows = rows_of(chance, mask, 4)
    assert rows.shape == (400, 4) and (rows < 9).all() and all(len(set(r)) == 4 for r in rows.tolist())
    times = torch.bincount(rows.flatten(), minlength=9)
    assert ((times - 400 * 4 / 9).abs() < 4 * math.sqrt(400 * 4 / 9 * 5 / 9)).all(), times
    tell([chance], 5, 7, torch.tensor([31, 8]))
    assert torch.equal(rows_of(chance, mask[:2, :9], 4), rows[[31, 8]]), "whatever else is there"
    assert torch.equal(rows_of(chance, mask[:2], 99).sort(1).values, torch.arange(12).expand(2, -1))
    tell([chance], 5, 8, torch.arange(400))
    assert not torch.equal(rows_of(chance, mask, 4), rows)


def pair(student: str, by: str, **how: Any) -> tuple[Taught, Any]:
    teacher, own = subject("transformer"), subject(student)
    mixers = [last_mixer(teacher.model), last_mixer(own.model)] if by == "relations" else None
    taught = Taught(own.exam, Distil("x", by, **how), teacher.model, own.model.train(), mixers)
    return taught, own


@pytest.mark.parametrize(("student", "by"), [("linear", "relations"), ("deltanet", "relations"), ("s4d", "logits")])
def test_the_model_is_taught_what_it_says_and_parts_add_up(student: str, by: str) -> None:
    taught, own = pair(student, by, rows=9, heads=4, weight=0.5)
    whole = batch_of(own)
    whole.labels[0, 3:9] = NOT_ASKED
    whole.labels[~whole.mask] = NOT_ASKED

    def asked(batch: Any, examples: list[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        own.model.zero_grad()
        tell([taught.chance], 1, 2, torch.tensor(examples))
        plain = taught.loss(own.model(batch.tokens, batch.mask), batch)
        extra, own.model.extra_loss = own.model.extra_loss, None
        extra.backward()
        return (
            plain.detach(),
            extra.detach(),
            {n: p.grad for n, p in own.model.named_parameters() if p.grad is not None},
        )

    plain, extra, grads = asked(whole, [4, 9])
    reference = own.exam.loss(own.model(whole.tokens, whole.mask), whole)
    torch.testing.assert_close(plain, reference)
    assert extra > 0 and len(grads) > 10
    counts = (whole.labels != NOT_ASKED).sum(1)
    parts = []
    for i in (0, 1):
        length = int(whole.mask[i].sum())
        part = type(whole)(*(each[i : i + 1] for each in whole))
        part = part._replace(tokens=part.tokens[:, :length], mask=part.mask[:, :length], labels=part.labels[:, :length])
        parts.append((counts[i] / counts.sum(), *asked(part, [[4, 9][i]])[1:]))
    torch.testing.assert_close(sum(share * each for share, each, _ in parts), extra, rtol=1e-4, atol=1e-6)
    for name, grad in grads.items():
        summed = sum(share * each[name] for share, _, each in parts)
        torch.testing.assert_close(summed, grad, rtol=1e-3, atol=1e-6)
    own.model.eval()
    taught.loss(own.model(whole.tokens, whole.mask), whole)
    assert own.model.extra_loss is None, "nobody asks while it is tested"
    exam = taught.released()
    assert exam is own.exam and not any(m._forward_pre_hooks for m in own.model.modules())


def test_every_mixer_that_offers_relations_gives_them() -> None:
    offering = set()
    for name in (
        "linear",
        "performer",
        "deltanet",
        "reformer",
        "longformer",
        "linformer",
        "synthesizer",
        "s4d",
        "lstm",
    ):
        trainee = subject(name)
        mixer = last_mixer(trainee.model)
        if mixer is None:
            continue
        offering.add(name)
        x, mask = torch.randn(2, 11, 32), torch.ones(2, 11, dtype=torch.bool)
        mask[1, 6:] = False
        other = x.clone()
        other[1, 6:] = 7.0
        with torch.no_grad():
            for a, b in zip(mixer.relations(x, mask), mixer.relations(other, mask), strict=True):
                assert a.shape[:2] == (2, 11) and a.shape[2] % mixer.heads == 0
                torch.testing.assert_close(a[mask], b[mask])
    assert {"linear", "performer", "deltanet", "reformer"} <= offering and not {"s4d", "lstm"} & offering


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("distil")
    return folder, treated.trained(folder)


def student(folder: Path, *words: str) -> Any:
    places = [*treated.places(folder), f"output_dir={folder / 'out'}"]
    return recorded(config([*treated.WORDS, *places, "keep=no", "train.steps=20", "treatment=distil", *words]))


def test_a_run_beside_a_teacher(teacher: tuple[Path, Any]) -> None:
    folder, known = teacher
    r = student(folder, "model=linear", f"treatment.teacher={known.run_id}")
    assert r.status == "ok" and r.steps_done == 20
    assert r.variant[-2:] == ["treatment=distil", f"treatment.teacher={known.run_id}"]
    said = dict(r.pretraining)
    assert said["core_seconds"] == known.training["core_seconds"] > 0 and r.training["core_seconds"] > 0
    assert (said["objective"], said["use"], said["teacher"], said["of"]) == (
        "distil", "relations", known.run_id, "transformer",
    )  # fmt: skip
    other = student(folder, "model=s4d", f"treatment.teacher={known.run_id}")
    assert other.status == "ok" and other.pretraining["use"] == "logits"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["treatment.teacher={id}", "task.by=3"], "other data than are here"),
        (["treatment.teacher=20260101T-none"], "has no '20260101T-none'"),
        (["treatment.teacher={id}", "treatment.by=relations", "model=s4d"], "model=s4d does not offer"),
        (["treatment.teacher={id}", "model.checkpoint=true"], "checkpoints throw away"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(
    teacher: tuple[Path, Any], words: list[str], says: str
) -> None:
    folder, known = teacher
    words = [w.format(id=known.run_id) for w in words]
    what = config([*treated.WORDS, *treated.places(folder), "model=linear", "treatment=distil", *words])
    exam = build.task(what)
    trainee = Trainee(build.model(what, exam), exam, what.train, subject("transformer").acc)
    made = build.instantiate(what.treatment, "treatment")
    with pytest.raises(UserError) as error:
        treatments.before(made, trainee, treatments.Going(what))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("teacher=null", "treatment.teacher: None is not the id"),
        ("by=heads", "treatment.by: 'heads' is not one of auto, relations, logits"),
        ("weight=0", "treatment.weight: 0 is not above 0"),
        ("rows=0", "treatment.rows: 0 is not a whole number"),
    ],
)
def test_bad_settings(words: str, says: str) -> None:
    given = ["treatment=distil", "treatment.teacher=x", f"treatment.{words}"]
    with pytest.raises(UserError) as error:
        build.instantiate(settings("transformer", *given).treatment, "treatment")
    assert says in str(error.value)
