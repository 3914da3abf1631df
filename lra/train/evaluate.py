"""The evaluation that scores every item of a split once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lra.train.batches import by_length, loader


@dataclass
class Score:
    """Accuracy and mean loss over all `items`; predictions in the split's order."""

    accuracy: float
    loss: float
    items: int
    predictions: np.ndarray


@torch.no_grad()
def evaluate(model: nn.Module, task: Any, name: str, cfg: Any, acc: Any) -> Score:
    """Score every item of a split exactly once, whatever the number of processes."""
    from accelerate.utils import gather_object

    split = task.split(name)
    size = cfg.train.eval_batch_size or cfg.train.batch_size
    batches = by_length(split.lengths, size)[acc.process_index :: acc.num_processes]
    was_training = model.training
    model.eval()
    answers, losses = [], []
    for batch in loader(task, split, batches, 0, acc.device.type == "cuda"):
        batch = type(batch)(*(t.to(acc.device, non_blocking=True) for t in batch))
        with acc.autocast():
            logits = model(batch.tokens, batch.mask)
        losses.append(F.cross_entropy(logits.float(), batch.labels, reduction="none"))
        answers.append(logits.argmax(-1))
    model.train(was_training)
    rows = [
        (index, torch.cat(answers).cpu().numpy(), torch.cat(losses).double().cpu().numpy())
        for index in ([np.concatenate(batches)] if batches else [])
    ]
    predictions, loss = np.full(len(split), -1), np.full(len(split), np.nan)
    for index, answer, item_loss in gather_object(rows) if acc.num_processes > 1 else rows:
        predictions[index], loss[index] = answer, item_loss
    right = predictions == np.asarray(split.labels)
    return Score(float(right.mean()), float(loss.mean()), len(split), predictions)
