"""Training beside a teacher: how much a mixer inherits of another one that has learnt the exam already.

The loss is that of the labels, and the teacher's is added to what is differentiated and never to what is reported:
relations of queries, keys and values in the last layer (lra.treatments.relations) where both mixers offer them by a
method `relations(x, mask)`, else the answers' softened probabilities. The student is a fresh model, with the weights,
batches and steps that it has without a teacher. What the teacher's own training took is told apart; what it takes to
ask it is part of each step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lra.errors import UserError, nearest
from lra.machine.device import own_randomness
from lra.models.parts.chance import Chance
from lra.record import store
from lra.record.record import Record
from lra.record.sheet import Damaged, Sheet, opened
from lra.settings import build
from lra.settings.typed import typed
from lra.tasks.base import NOT_ASKED
from lra.train import checkpoint
from lra.train.trainee import Trainee
from lra.treatments import Going
from lra.treatments.examples import at_least_one, one_of
from lra.treatments.relations import relations, rows_of, soft

BY = ("auto", "relations", "logits")


class Distil:
    """teacher: the id of a run in the results folder that kept its weights (keep=best), on the same data. by: what it
    teaches, see the module; "auto" is relations where both have them. weight: of it beside the labels' loss.
    temperature: of logits. heads: into which q, k and v are split; rows: most that are drawn of a sequence in a step.
    Raises ValueError."""

    def __init__(
        self,
        teacher: str | None = None,
        by: str = "auto",
        weight: float = 1.0,
        temperature: float = 2.0,
        heads: int = 8,
        rows: int = 64,
    ) -> None:
        if not isinstance(teacher, str) or not teacher or "/" in teacher:
            raise ValueError(
                f"treatment.teacher: {teacher!r} is not the id of a run; allowed: one that kept its weights"
            )
        for field, value in (("weight", weight), ("temperature", temperature)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"treatment.{field}: {value!r} is not above 0")
        self.teacher, self.by, self.weight, self.temperature = teacher, one_of("by", by, BY), weight, temperature
        self.heads, self.rows = at_least_one("heads", heads), at_least_one("rows", rows)

    def before(self, trainee: Trainee, going: Going) -> Trainee:
        """The trainee, whose exam asks for what the teacher knows too. Raises UserError for a teacher that is not
        there or cannot teach this."""
        if trainee.acc.num_processes > 1 or going.settings.compile:
            raise UserError("treatment: distil runs in one process, and not with compile=true")
        sheet = found(self.teacher, Path(going.settings.results_dir))
        model = rebuilt(sheet, trainee)
        pair = [last_mixer(each) for each in (model, trainee.model)]
        by = self.by if self.by != "auto" else "logits" if None in pair else "relations"
        if by == "relations":
            self.refuse(pair, (sheet.record.model, going.settings.choices.model), trainee.model)
        own = Taught(trainee.exam, self, model, trainee.model, pair if by == "relations" else None)
        with own_randomness(going.settings.seed):
            out = Trainee(trainee.model, own, trainee.train, trainee.acc, False, going.settings.seed)
        # Behind all of the model's own, whose numbers are then what they are without a teacher.
        out.drawing.append(own.chance)
        going.tell(told(sheet.record, by))
        return out

    def after(self, trainee: Trainee) -> Trainee:
        """The student by itself."""
        if isinstance(trainee.exam, Taught):
            trainee.exam = trainee.exam.released()
        return trainee

    def refuse(self, pair: list[Any], names: tuple[str, str], student: nn.Module) -> None:
        for mixer, name in zip(pair, names, strict=True):
            if mixer is None:
                raise UserError(f"treatment.by: relations are what model={name} does not offer; allowed: logits")
        if getattr(getattr(student, "stack", None), "checkpoint", False):
            raise UserError("treatment.by: relations are read in the forward pass, which checkpoints throw away")


def told(r: Record, by: str) -> dict[str, Any]:
    """What the student's record says of its teacher, whose training is a cost of its own."""
    spent = {key: r.training.get(key) for key in ("seconds", "core_seconds", "pace")}
    return {"objective": "distil", "use": by, "teacher": r.run_id, "of": r.model, **spent}


def found(name: str, results: Path) -> Sheet:
    """The teacher's record. Raises UserError where it is not there or kept no weights."""
    here = {p.stem: p for p in store.paths(results)}
    if name not in here:
        raise UserError(f"treatment.teacher: {results / 'runs'} has no {name!r}.{nearest(name, here)}")
    try:
        sheet = opened(here[name])
    except Damaged as error:
        raise UserError(f"treatment.teacher: {error}") from error
    r = sheet.record
    if r.kind != "model" or r.status != "ok" or r.config.get("treatment"):
        raise UserError(
            f"treatment.teacher: {name} is no trained model; allowed: a run that ended ok, without treatment"
        )
    if sheet.weights is None or not sheet.weights.is_file():
        raise UserError(f"treatment.teacher: the weights of {name} are not beside it; make the run with keep=best")
    return sheet


def rebuilt(sheet: Sheet, trainee: Trainee) -> nn.Module:
    """The teacher as it was tested, and never trained. Raises UserError if it was trained on other data."""
    exam, r = trainee.exam, sheet.record
    if exam.fingerprint() != r.data.get("fingerprint"):
        raise UserError(f"treatment.teacher: {r.run_id} was trained on {r.row}, and other data than are here")
    with own_randomness(r.seed):
        model = build.model(typed(dict(r.config)), exam)
    checkpoint.load(sheet.weights, model, exam.vocabulary)
    return model.to(trainee.acc.device).eval().requires_grad_(False)


def last_mixer(model: nn.Module) -> Any:
    """The last of a model's mixers that offers relations; null where none does."""
    return next((m for m in reversed(list(model.modules())) if callable(getattr(m, "relations", None))), None)


class Taught:
    """An exam whose loss asks the teacher too: what it says is left as the student's `extra_loss`."""

    def __init__(self, exam: Any, how: Distil, teacher: nn.Module, student: nn.Module, pair: Any) -> None:
        self.exam, self.how, self.pair = exam, how, pair
        self.teacher, self.student, self.chance = teacher, student, Chance()
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}
        self.hooks = [
            mixer.register_forward_pre_hook(lambda _, given, name=name: self.see(name, given))
            for name, mixer in zip(("teacher", "student"), pair or (), strict=pair is not None)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["exam"], name)

    def released(self) -> Any:
        """The exam; the student is what it was."""
        for hook in self.hooks:
            hook.remove()
        return self.exam

    def see(self, name: str, given: tuple[Any, ...]) -> None:
        if name == "teacher" or self.student.training:
            self.seen[name] = given[0], given[1]

    def loss(self, output: Tensor, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        if self.student.training and torch.is_grad_enabled():
            self.student.extra_loss = self.how.weight * self.apart(output, batch)
        return self.exam.loss(output, batch, label_smoothing)

    def apart(self, output: Tensor, batch: Any) -> Tensor:
        """How far the student is from its teacher: a mean over the answers asked for, by which parts of a batch add up
        to the whole."""
        with torch.no_grad():
            theirs = self.teacher(batch.tokens, batch.mask)
        asked = batch.labels != NOT_ASKED
        if self.pair is None:
            return soft(theirs[asked], output[asked], self.how.temperature).mean()
        (x, real), (y, own) = (self.seen.pop(name) for name in ("teacher", "student"))
        if not y.requires_grad:
            raise ValueError("treatment.by: relations do not reach through this model's backward pass; allowed: logits")
        length = min(x.shape[1], y.shape[1])  # a vector in front that one alone has is left out
        x, y, real, own = (each[:, -length:] for each in (x, y, real, own))
        with torch.no_grad():
            known = self.pair[0].relations(x, real)
        found = relations(known, self.pair[1].relations(y, own), real, self.how.heads, self.rows(real))
        # As many answers as an example is asked for, so often its relations count; of two documents, both.
        weight = asked.reshape(len(asked), -1).sum(1).repeat_interleave(len(found) // len(asked))
        return (found * weight).sum() / weight.sum().clamp(min=1)

    def rows(self, mask: Tensor) -> Tensor:
        return rows_of(self.chance, mask, self.how.rows)
