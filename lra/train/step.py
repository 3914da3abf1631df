"""The one training step: what is trained is what is measured, and what growth is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch


class Steps(Protocol):
    """What can be stepped; `lra.train.trainee.Trainee` is one."""

    acc: Any
    net: Any
    optimizer: Any
    train: Any
    loss: Any
    extra: Any
    steps: int

    def parameters(self) -> Any: ...

    def gradients(self, part: Any, share: float) -> None: ...

    def follow(self) -> None: ...


def step(trainee: Steps, parts: Sequence[Any], asked: int | None = None) -> None:
    """One optimizer step on a batch that comes in parts, one or several.

    Each part counts by how many of the `asked` answers of the whole batch, over all processes, are its own
    (null: they are counted), so that the gradient is that of the whole batch.
    Gradients are summed, clipped to `train.grad_clip` and set to None in the end. `trainee.loss` is then this
    process's part of the mean loss, `trainee.extra` that of the extra losses; `trainee.steps` counts the step. The
    backward pass runs outside of autocast, as torch asks for.
    """
    acc = trainee.acc
    trainee.loss.zero_()
    trainee.extra.zero_()
    counts = [part.asked for part in parts]
    whole = asked if asked is not None else _over_all(acc, sum(counts))
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        with nullcontext() if last else acc.no_sync(trainee.net):
            trainee.gradients(part.to(acc.device), counts[i] * acc.num_processes / whole)
    if trainee.train.grad_clip is not None:
        acc.clip_grad_norm_(trainee.parameters(), trainee.train.grad_clip)
    trainee.optimizer.step()
    trainee.follow()
    trainee.optimizer.zero_grad(set_to_none=True)
    trainee.steps += 1


def _over_all(acc: Any, count: int) -> int:
    """The sum of what each process counts."""
    if acc.num_processes == 1:
        return count
    return int(acc.reduce(torch.tensor(count, device=acc.device), "sum"))
