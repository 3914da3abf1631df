"""The evaluation that scores every item of a split once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from lra.machine.device import own_randomness
from lra.machine.heartbeat import beat
from lra.settings.schema import Settings
from lra.train.batches import by_length, loader


@dataclass(frozen=True)
class Score:
    """Accuracy and mean loss over all answers that are asked for, of which there are `items`.

    predictions, labels, losses (N,): in the split's order. clusters (N,): the item that each answer belongs to, null
    where every item has one. noted: what the exam tells of the answers besides (`Task.noted`, `of_answers`).
    """

    accuracy: float
    loss: float
    items: int
    predictions: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray | None = None
    losses: np.ndarray | None = None
    noted: Mapping[str, float | None] = field(default_factory=dict)


@torch.no_grad()
def evaluate(model: nn.Module, exam: Any, name: str, settings: Settings, acc: Any) -> Score:
    """Score every item of a split exactly once, whatever the number of processes."""
    split = exam.split(name)
    size = settings.train.eval_batch_size or settings.train.batch_size
    batches = by_length(split.lengths, size)[acc.process_index :: acc.num_processes]
    was_training = model.training
    model.eval()
    found, noted = [], []
    with own_randomness(settings.seed):
        for index, batch in zip(batches, loader(exam, split, batches, 0, acc.device.type == "cuda"), strict=True):
            batch = batch.to(acc.device)
            with acc.autocast():
                output = model(batch.tokens, batch.mask)
            answers = exam.scores(output, batch)
            noted.append({k: v.double().cpu().numpy() for k, v in exam.noted(output, batch).items()})
            beat()
            found.append((index[answers.items.cpu().numpy()], *(t.cpu().numpy() for t in answers[:3])))
    model.train(was_training)
    rows = [tuple(map(np.concatenate, zip(*found, strict=True)))] if found else []
    if acc.num_processes > 1:
        from accelerate.utils import gather_object

        rows, noted = gather_object(rows), gather_object(noted)
    clusters, predictions, labels, losses = map(np.concatenate, zip(*rows, strict=True))
    order = np.argsort(clusters, kind="stable")
    predictions, labels, losses = predictions[order], labels[order], losses[order].astype(float)
    alone = exam.answers == "sequence"
    right = predictions == labels
    where = None if alone else clusters[order]
    means = {name: float(np.concatenate([each[name] for each in noted]).mean()) for name in (noted or [{}])[0]}
    told = means | exam.of_answers(predictions, labels)
    return Score(float(right.mean()), float(losses.mean()), len(labels), predictions, labels, where, losses, told)
