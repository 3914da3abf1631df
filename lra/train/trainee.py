"""What is trained: a model, its parameters in groups, and its loss with whatever else it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lra.models.parts.chance import listening, tell
from lra.settings.schema import Train
from lra.train.batches import Part
from lra.train.optim import optimizer


class Trainee:
    """A model that sits an exam, ready for `lra.train.step.step`.

    The loss is the exam's, and what modules of the model have set as `extra_loss` during `forward` (a scalar,
    already weighted) is added to what is differentiated, never to what is reported. acc: an Accelerator, or `Alone`
    in its place. compiled: run the model through torch.compile. seed: of what is drawn while training, by (seed,
    step, example); `steps`: how many have been taken.
    """

    def __init__(
        self, model: nn.Module, exam: Any, train: Train, acc: Any, compiled: bool = False, seed: int = 0
    ) -> None:
        self.model, self.exam, self.train, self.acc = model, exam, train, acc
        self.seed, self.steps = seed, 0
        self.net, self.optimizer = acc.prepare(model, optimizer(model, train))
        self.called = _compiled(self.net) if compiled else self.net
        # Looked for once: to walk through a small model takes as long as some of its layers.
        self.modules = list(model.modules())
        self.drawing = listening(model)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.average)) if train.average else None
        # Kept from step to step, so that reading it later holds nothing of a step.
        self.loss = torch.zeros((), device=acc.device)
        self.extra = torch.zeros((), device=acc.device)

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are scored: those of `net`, or their average."""
        return self.net if self.average is None else self.average.module

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.net.parameters()

    def follow(self) -> None:
        """After a step: let the average take its part of the new weights."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def gradients(self, part: Part, share: float) -> None:
        """Add the gradients of `share` times the mean loss over the answers of a part of a batch."""
        batch = part.batch
        tell(self.drawing, self.seed, self.steps, part.examples)
        with self.acc.autocast():
            loss = self.exam.loss(self.called(batch.tokens, batch.mask), batch, self.train.label_smoothing)
        loss = loss if share == 1.0 else loss * share
        self.loss += loss.detach()
        extra = extra_loss(self.modules)
        if extra is not None:
            extra = extra if share == 1.0 else extra * share
            self.extra += extra.detach()
            loss = loss + extra
        self.acc.backward(loss)

    def groups(self) -> list[dict[str, Any]]:
        """The groups of parameters: how many tensors and numbers, rate as a ratio to the schedule's, decay."""
        return [
            {
                "names": group["names"],
                "tensors": len(group["params"]),
                "numbers": sum(p.numel() for p in group["params"]),
                "rate": group["rate"],
                "decay": group["weight_decay"],
            }
            for group in self.optimizer.param_groups
        ]


def _compiled(net: nn.Module) -> nn.Module:
    """torch.compile, which keeps to deterministic kernels where all of torch is told to."""
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=warn)
    return torch.compile(net)


def extra_loss(modules: Iterable[nn.Module]) -> Tensor | None:
    """The sum of what modules have asked for in this forward pass; asked once, then forgotten."""
    found = []
    for module in modules:
        if (asked := module.__dict__.get("extra_loss")) is not None:
            found.append(asked)
            module.extra_loss = None
    return sum(found[1:], found[0]) if found else None
