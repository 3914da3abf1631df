"""Pretraining on the inputs of the task's own training split, then fine-tuning or a probe.

Two objectives, each a cross-entropy over the task's tokens: tell those that are hidden (Devlin et al. 2019; Amos et al.
2023, arXiv 2310.02980), or the next one at every position (Chen et al. 2020, "Generative Pretraining from Pixels").
What is hidden is replaced, behind the embedding, by a learned vector that starts at zero, and never by the padding id.
Two uses: all weights are trained on, with the head as it was made ("finetune"), or all are kept and a linear classifier
is trained on the mean of what the middle layer leaves ("probe"; section 2.3 of the latter). The weights taken are the
last ones, at a rate of 0, not those best on valid. Any model of `models.classifier.Classifier` can be pretrained.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.console import say
from lra.errors import UserError
from lra.machine.device import own_randomness
from lra.settings.schema import Shares
from lra.train.fit import Diverged, Fit, fit
from lra.train.state import State
from lra.train.trainee import Trainee
from lra.treatments import Going
from lra.treatments.inputs import OBJECTIVES, Guess

USES = ("finetune", "probe")
PHASE = "pretrain"
WARMUP = 0.05


class Pretrain:
    """See the module. share: of the tokens that are hidden. steps, or core_minutes in a budget of minutes: how long, of
    batches of the run's size. Raises ValueError for what is out of range."""

    def __init__(
        self,
        objective: str = "masked",
        use: str = "finetune",
        share: float = 0.15,
        steps: int | None = 1000,
        core_minutes: float | None = None,
        learning_rate: float = 1e-3,
    ) -> None:
        for field, value, allowed in (("objective", objective, OBJECTIVES), ("use", use, USES)):
            if value not in allowed:
                raise ValueError(f"treatment.{field}: {value!r} is not one of {', '.join(allowed)}")
        if not 0 < share < 1:
            raise ValueError(f"treatment.share: {share} is not in (0, 1)")
        if (steps is None) == (core_minutes is None):
            raise ValueError("treatment.steps: takes a number where treatment.core_minutes is null, and null else")
        for field, value in (("steps", steps), ("core_minutes", core_minutes), ("learning_rate", learning_rate)):
            if value is not None and not value > 0:
                raise ValueError(f"treatment.{field}: {value} is not above 0")
        self.objective, self.use, self.share = objective, use, share
        self.steps, self.core_minutes, self.learning_rate = steps, core_minutes, learning_rate

    def before(self, trainee: Trainee, going: Going) -> Trainee:
        """The trainee with pretrained weights, or its probe. Raises UserError for a model or an exam that cannot be
        pretrained so, Diverged if it diverges."""
        self.refuse(trainee, going.settings.choices.model)
        settings, steps = going.settings, self.long(going)
        phase = None if going.since is None else going.since.facts.get("phase")
        if going.since is None or phase == PHASE:
            self.pretrain(trainee, going, steps)
        going.saver = None if going.saver is None else Behind(going.saver, steps)
        going.since = None if phase != "train" else before_of(going.since)
        model = trainee.model
        if self.use == "probe":
            with own_randomness(settings.seed):
                model = Probe(model, trainee.exam).to(trainee.acc.device)
        # Anew: its optimizer, and the average of its weights, begin at those that are pretrained.
        return Trainee(model, trainee.exam, trainee.train, trainee.acc, settings.compile, settings.seed)

    def long(self, going: Going) -> int:
        steps = self.steps if self.core_minutes is None else going.steps_in(self.core_minutes)
        if not steps:
            raise UserError(
                f"treatment.core_minutes: {self.core_minutes:g} hold no step, or the run is none of train.core_minutes"
            )
        return steps

    def refuse(self, trainee: Trainee, name: str) -> None:
        model, exam = trainee.model, trainee.exam
        if not (callable(getattr(model, "states", None)) and isinstance(getattr(model, "dim", None), int)):
            raise UserError(f"treatment: pretrain asks for the states of tokens, which model={name} does not give")
        if trainee.acc.num_processes > 1:
            raise UserError("treatment: pretrain runs in one process")
        if self.use == "probe" and getattr(exam, "aux", None) is not None:
            raise UserError(f"treatment.use: probe tells a label alone, and task.aux={exam.aux} asks for more")
        if self.use == "probe" and (exam.documents != 1 or exam.answers not in ("sequence", "token")):
            raise UserError(
                f"treatment.use: probe reads one document as a whole or token by token, not task={exam.name}"
            )
        if self.objective == "causal" and sees_ahead(model, exam):
            raise UserError(
                f"treatment.objective: causal asks for a model in which no position sees a later one; model={name} has"
                " some that do (transformer and linear do not with model.mixer.causal=true)"
            )

    def pretrain(self, trainee: Trainee, going: Going, steps: int) -> None:
        """Train the model of `trainee`, and tell what that took."""
        settings = going.settings
        train = replace(
            settings.train, steps=steps, core_minutes=None, shares=Shares(), eval_every=steps, rates=(), halve_at=(),
            learning_rate=self.learning_rate, schedule="linear_to_zero", warmup_steps=round(WARMUP * steps),
            label_smoothing=0.0, average=0.0, stop_at=None,
        )  # fmt: skip
        items = len(trainee.exam.split("train"))
        exam = Guess(trainee.exam, self.objective, self.share, -(-steps * train.batch_size // items), settings.seed)
        told = {
            "objective": self.objective,
            "use": self.use,
            "share": self.share if self.objective == "masked" else None,
            "steps": steps,
            "batch_size": train.batch_size,
            "learning_rate": self.learning_rate,
        }
        going.tell(told)
        with own_randomness(settings.seed):
            net = Predictor(trainee.model, exam).to(trainee.acc.device)
        inner = Trainee(net, exam, train, trainee.acc, False, settings.seed)
        out = Fit()
        saver = None if going.saver is None else Behind(going.saver, 0, PHASE)
        since = None if going.since is None else before_of(going.since)
        try:
            fit(inner, replace(settings, train=train), going.progress(steps), out, saver, since)
        except Diverged as error:
            raise Diverged(f"while pretraining, {error}") from error
        finally:
            net.release()
        near, last = exam.near(), out.curve[-1]
        told |= {
            "examples": out.examples,
            "tokens": out.tokens,
            "seconds": round(out.seconds, 3),
            "core_seconds": round(out.core_seconds, 3),
            "pace": out.spent.pace,
            "loss_valid": last["valid_loss"],
            "accuracy_valid": last["valid_accuracy"],
            "near_valid": near,
        }
        going.tell(told)
        say(
            f"pretrained: loss {last['valid_loss']:.4f} a token on valid, {last['valid_loss'] / math.log(2):.3f} bits;"
            f" the best rule of two tokens {'before' if exam.hidden is None else 'to either side'} has {near:.4f}"
        )


class Behind:
    """Who keeps states, told of a phase: its steps count after those of the phases before it."""

    def __init__(self, saver: Any, after: int, phase: str = "train") -> None:
        self.saver, self.after, self.phase = saver, after, phase

    def wanted(self) -> bool:
        return self.saver.wanted()

    def held(self) -> AbstractContextManager[None]:
        return self.saver.held()

    def keep(self, state: State) -> None:
        own = state.facts["steps_done"]
        facts = {**state.facts, "phase": self.phase, "of_phase": own, "steps_done": own + self.after}
        self.saver.keep(State(state.tensors, facts))


def before_of(state: State) -> State:
    """A state as its phase counts its steps."""
    return State(state.tensors, {**state.facts, "steps_done": state.facts["of_phase"]})


class Predictor(nn.Module):
    """A model with a head over tokens in the place of its own: tokens (B, L), mask (B, L) -> (B, L, vocabulary)."""

    def __init__(self, model: Any, exam: Guess) -> None:
        super().__init__()
        self.model, self.hidden = model, exam.hidden
        self.vector = nn.Parameter(torch.zeros(model.dim)) if exam.hidden is not None else None
        self.head = nn.Linear(model.dim, exam.num_classes)
        self.gone: Tensor | None = None
        self.hook = model.embedding.register_forward_hook(self.put) if exam.hidden is not None else None

    def put(self, module: nn.Module, given: Any, embedded: Tensor) -> Tensor:
        return torch.where(self.gone.unsqueeze(-1), self.vector.to(embedded.dtype), embedded)

    def release(self) -> None:
        """Let the model be what it was."""
        if self.hook is not None:
            self.hook.remove()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.hidden is not None:
            self.gone = tokens == self.hidden
            tokens = tokens.masked_fill(self.gone, 1)
        return self.head(self.model.states(tokens, mask))


class Probe(nn.Module):
    """A linear classifier on what the middle layer leaves, its mean over real tokens, or each token where the exam asks
    for answers there; scaled to a deviation of 1. Nothing else is trained, and nothing dropped."""

    def __init__(self, model: Any, exam: Any) -> None:
        super().__init__()
        self.model, self.pooled, self.seen = model.requires_grad_(False), exam.answers == "sequence", None
        self.head = nn.Linear(model.dim, exam.num_classes)
        layers = getattr(model.stack, "layers", ())
        # Of a stack whose layers do not hand on (B, L, D) its end is read.
        self.middle = layers[len(layers) // 2 - 1] if len(layers) > 1 else None

    def train(self, mode: bool = True) -> Probe:
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        seen: list[Any] = []
        hook = None if self.middle is None else self.middle.register_forward_hook(lambda m, a, y: seen.append(y))
        try:
            with torch.no_grad():
                x = self.model.states(tokens, mask)
        finally:
            if hook is not None:
                hook.remove()
        if seen and isinstance(seen[0], Tensor) and seen[0].dim() == 3 and seen[0].shape[1] >= x.shape[1]:
            x = seen[0][:, seen[0].shape[1] - x.shape[1] :]
        if self.pooled:
            x = x.masked_fill(~mask.unsqueeze(-1), 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return self.head(F.layer_norm(x, x.shape[-1:]))


@torch.no_grad()
def sees_ahead(model: Any, exam: Any) -> bool:
    """Does any position's state change with a token behind it?"""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    length = min(exam.max_len, 128)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, exam.vocab_size, (1, length), generator=draw).to(device)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    before, found = model.states(tokens, mask), False
    for place in {1, length // 2, length - 1}:
        other = tokens.clone()
        other[:, place:] = other[:, place:] % (exam.vocab_size - 1) + 1
        moved = (model.states(other, mask) - before)[:, :place].abs().amax()
        found |= bool(moved > 1e-5 * before.abs().amax())
    model.train(training)
    return found
