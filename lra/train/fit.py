"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.train.batches import loader, share, stream
from lra.train.evaluate import Score, evaluate
from lra.train.optim import learning_rate, optimizer, set_learning_rate


class Diverged(Exception):
    """The loss is not finite, or far above that of chance."""


@dataclass
class Fit:
    """What training leaves: the curve, the best step on valid and the weights of that step."""

    curve: list[dict[str, Any]] = field(default_factory=list)
    steps_done: int = 0
    best_step: int | None = None
    best: Score | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    examples: int = 0
    tokens: int = 0
    positions: int = 0


def fit(
    model: nn.Module,
    task: Any,
    cfg: Any,
    acc: Any,
    report: Callable[..., None] = lambda **_: None,
    out: Fit | None = None,
) -> Fit:
    """Train for `cfg.train.steps` steps; keep the weights that are best on valid (earliest of equals).

    `out` is filled as training goes, so that an interrupted caller still has the curve. Raises
    Diverged when the loss is not finite or its running mean exceeds `train.diverged_at` times ln C.
    """
    out = out if out is not None else Fit()
    train = cfg.train
    split = task.split("train")
    opt = optimizer(model.parameters(), train)
    net, opt = acc.prepare(model, opt)
    step_net = torch.compile(net) if cfg.compile else net
    batches = stream(split.lengths, train.batch_size, cfg.seed, cfg.data.bucket)
    parts = (p for b in batches for p in share(b, acc.process_index, acc.num_processes, train.accumulate))
    feed = iter(loader(task, split, parts, cfg.data.workers, acc.device.type == "cuda"))
    limit = train.diverged_at * math.log(max(2, task.num_classes))
    # A look at the loss makes the host wait for a CUDA device, so there it is taken more rarely.
    look_every = 1 if acc.device.type == "cpu" else 10
    running, unread = None, []
    net.train()
    start = time.perf_counter()
    for step in range(train.steps):
        set_learning_rate(opt, learning_rate(step, train))
        total = torch.zeros((), device=acc.device)
        for part in range(train.accumulate):
            batch = next(feed)
            out.examples += len(batch.labels) * acc.num_processes
            out.tokens += int(batch.mask.sum()) * acc.num_processes
            out.positions += batch.mask.numel() * acc.num_processes
            tokens, mask, labels = (t.to(acc.device, non_blocking=True) for t in batch)
            last = part == train.accumulate - 1
            with acc.autocast(), nullcontext() if last else acc.no_sync(net):
                logits = step_net(tokens, mask)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=train.label_smoothing)
                loss = loss * (len(labels) * acc.num_processes / train.batch_size)
                acc.backward(loss)
            total += loss.detach()
        if train.grad_clip is not None:
            acc.clip_grad_norm_(net.parameters(), train.grad_clip)
        opt.step()
        opt.zero_grad(set_to_none=True)
        out.steps_done = step + 1
        unread.append(total)
        if len(unread) == look_every or step + 1 == train.steps:
            for value in acc.reduce(torch.stack(unread), "mean").tolist():
                running = value if running is None else 0.9 * running + 0.1 * value
                if not math.isfinite(value) or running > limit:
                    raise Diverged(f"loss {value:.4g} at step {step + 1} (chance is {math.log(task.num_classes):.4g})")
            unread.clear()
            out.seconds = time.perf_counter() - start
            report(step=step + 1, loss=running, examples_per_second=out.examples / out.seconds)
        if (step + 1) % train.eval_every == 0 or step + 1 == train.steps:
            pause = time.perf_counter()
            score = evaluate(net, task, "valid", cfg, acc)
            if acc.device.type == "cuda":
                torch.cuda.synchronize()
            start += time.perf_counter() - pause  # the clock of training does not see evaluation
            out.curve.append(
                {
                    "step": step + 1,
                    "train_loss": running,
                    "valid_loss": score.loss,
                    "valid_accuracy": score.accuracy,
                    "seconds": round(out.seconds, 3),
                }
            )
            if out.best is None or score.accuracy > out.best.accuracy:
                out.best, out.best_step = score, step + 1
                state = acc.unwrap_model(net).state_dict()
                out.best_state = {k: v.detach().to("cpu", copy=True) for k, v in state.items()}
            report(step=step + 1, valid=score.accuracy, loss=running)
    return out
