"""The optimizer and the schedules of the official code (spec 4.5)."""

from __future__ import annotations

import math
from inspect import unwrap

import torch
from torch import nn

from lra.settings.schema import Train


class AdamW(torch.optim.AdamW):
    """torch's, without the compiler: torch wraps these methods so that a compiled program leaves them out, and each
    wrapper imports torch._dynamo at its first call, a second of every process. No optimizer is compiled here, so they
    stand as torch wrote them; a torch that wraps them otherwise, or not at all, loses nothing but that second."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def optimizer(model: nn.Module, train: Train) -> AdamW:
    """AdamW; weight decay acts on all parameters, as in flax.optim.Adam, which the official code uses.

    A parameter may say otherwise: `parameter.lra = {"rate": r, "decay": w}`, of which either may be absent. r is a
    ratio to the schedule's rate, so that warm-up and decay scale all groups alike; w takes the place of
    `train.weight_decay`. Raises ValueError for other keys.
    """
    found: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        tag = getattr(parameter, "lra", {})
        if unknown := set(tag) - {"rate", "decay"}:
            raise ValueError(f"{name}.lra: {', '.join(sorted(unknown))} is not one of rate, decay")
        key = float(tag.get("rate", 1.0)), float(tag.get("decay", train.weight_decay))
        found.setdefault(key, []).append((name, parameter))
    groups = [
        {
            "params": [p for _, p in named],
            "names": [n for n, _ in named] if len(found) > 1 else [],
            "lr": train.learning_rate * rate,
            "weight_decay": decay,
            "rate": rate,
        }
        for (rate, decay), named in found.items()
    ]
    # On a CPU torch takes one tensor after the other unless told otherwise, which costs as much as a layer. Its fused
    # step goes through memory as it lies: states that come back from a checkpoint are contiguous.
    plain = (p.device.type == "cpu" and p.is_floating_point() and p.is_contiguous() for p in model.parameters())
    fused = all(plain) or None
    return AdamW(groups, lr=train.learning_rate, betas=tuple(train.betas), eps=train.eps, fused=fused)


def learning_rate(step: int, train: Train) -> float:
    """Learning rate of the update number `step`, counted from 0 as in the official code.

    rsqrt:   base min(1, s/w) / sqrt(max(s, w)), Vaswani et al. 2017, eq. 3 (base holds the constants)
    cosine:  base min(1, s/w) (1 + cos(pi max(0, s - w) / steps)) / 2
    linear:  base/25 up to base at w, then down to base/250,000 at the end (one cycle, spec 5.1)
    constant: base min(1, s/w)

    and, w steps from 0 to base, what S4's and Mega's authors ran, both 0 at the end:

    cosine_to_zero:  base (1 + cos(pi (s - w) / (steps - w))) / 2
    linear_to_zero:  base (steps - s) / (steps - w)
    """
    base, warm, total = train.learning_rate, train.warmup_steps, max(1, train.steps)
    ramp = min(1.0, step / warm) if warm else 1.0
    fall = min(1.0, max(0, step - warm) / max(1, total - warm))
    if train.schedule == "rsqrt":
        return base * ramp / math.sqrt(max(step, warm, 1))
    if train.schedule == "cosine":
        return base * ramp * 0.5 * (1 + math.cos(math.pi * (max(0, step - warm) / total % 1.0)))
    if train.schedule == "linear":
        if step < warm:
            return base / 25 + (base - base / 25) * ramp
        return base + (base / 250_000 - base) * fall
    if train.schedule == "cosine_to_zero":
        return base * ramp * 0.5 * (1 + math.cos(math.pi * fall))
    if train.schedule == "linear_to_zero":
        return base * ramp * (1 - fall)
    return base * ramp


def set_learning_rate(opt: torch.optim.Optimizer, rate: float) -> None:
    """Of all groups, each by its own ratio."""
    for group in opt.param_groups:
        group["lr"] = rate * group["rate"]
