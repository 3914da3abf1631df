"""Values out of range, refused in one line."""

from __future__ import annotations

from typing import Any

from lra.errors import UserError
from lra.settings.schema import (
    COST_MODES,
    DEVICES,
    DTYPES,
    KEEP,
    RERUN,
    RESUME,
    SCHEDULES,
    WANDB_MODES,
    Settings,
    Train,
)

MOST_THREADS = 1024
MOST_MINUTES = 1_000_000


def checked(settings: Settings) -> Settings:
    """The same; UserError for a value out of range."""

    def at_least(low: float, *names: str) -> None:
        for name in names:
            value = _get(settings, name)
            if value is not None and not value >= low:
                raise UserError(f"{name}: {value} is not allowed; it must be at least {low}")

    def one_of(allowed: tuple[str, ...], name: str) -> None:
        if _get(settings, name) not in allowed:
            raise UserError(f"{name}: {_get(settings, name)!r} is not one of {', '.join(allowed)}")

    at_least(0, "seed", "train.steps", "train.warmup_steps", "train.weight_decay", "data.workers", "measure.seconds")
    at_least(0, "checkpoint_every", "search.failed")
    at_least(1, "search.trials", "search.trial")
    at_least(1, "train.batch_size", "train.accumulate", "train.eval_every", "train.eval_batch_size", "threads")
    at_least(1, "size.depth", "size.dim", "size.heads", "size.qkv_dim", "size.mlp_dim", "measure.batch_size")
    at_least(1, "data.pad_multiple", "data.parts", "cost.batch_size", "cost.point_seconds")
    at_least(1, "run.timeout", "run.stalled", "workers")
    if settings.threads is not None and settings.threads > MOST_THREADS:
        raise UserError(f"threads: {settings.threads} is not allowed; it must be at most {MOST_THREADS}")
    one_of(("longest", "max"), "data.pad_to")
    at_least(3, "measure.steps")
    at_least(2, "measure.warmup_steps")
    at_least(1e-12, "train.learning_rate", "train.eps", "train.grad_clip", "measure.memory_limit_gib")
    at_least(1e-3, "cost.memory_gib", "run.memory_gib")
    at_least(1.0, "train.diverged_at")
    for name in ("size.dropout", "size.attention_dropout", "train.label_smoothing"):
        if not 0 <= _get(settings, name) < 1:
            raise UserError(f"{name}: {_get(settings, name)} is not in [0, 1)")
    betas = list(settings.train.betas)
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise UserError(f"train.betas: {betas} is not two numbers in [0, 1)")
    _ladder(settings)
    one_of(RERUN, "rerun")
    one_of(RESUME, "resume")
    one_of(KEEP, "keep")
    one_of(SCHEDULES, "train.schedule")
    one_of(DTYPES, "dtype")
    one_of(DEVICES, "device")
    one_of(WANDB_MODES, "wandb.mode")
    if settings.minutes is not None and settings.sweep == "cost":
        raise UserError("minutes: not for sweep=cost; choose fewer points there, as cost.lengths=[1024,4096]")
    _workers(settings)
    if not settings.cost.lengths or min(settings.cost.lengths) < 1:
        raise UserError(f"cost.lengths: {list(settings.cost.lengths)} is not a list of lengths of at least 1")
    if not settings.cost.modes or not set(settings.cost.modes) <= set(COST_MODES):
        raise UserError(f"cost.modes: {list(settings.cost.modes)} is not a list of {', '.join(COST_MODES)}")
    parts, size = settings.train.accumulate, settings.train.batch_size
    if size % parts:
        raise UserError(f"train.accumulate: {parts} does not divide train.batch_size {size}")
    return settings


def _ladder(settings: Settings) -> None:
    train = settings.train
    rates = list(train.rates)
    if any(not rate > 0 for rate in rates) or rates != sorted(set(rates)):
        raise UserError(f"train.rates: {rates} is not a list of numbers above 0, ascending")
    needed = (len(rates) - 1).bit_length() if rates else 0
    _shares(train, needed)
    if train.steps is not None:
        halved(train)
    if not 0 <= train.average < 1:
        raise UserError(f"train.average: {train.average} is not in [0, 1)")
    if train.stop_at is not None and not 0 < train.stop_at <= 1:
        raise UserError(f"train.stop_at: {train.stop_at} is not in (0, 1]")


def _shares(train: Train, needed: int) -> None:
    """What is said in shares of the steps, and where those come from."""
    shares = train.shares
    for name in ("warmup", "evaluate"):
        value = getattr(shares, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"train.shares.{name}: {value} is not in [0, 1]")
    halve = list(shares.halve)
    wrong = halve != sorted(set(halve)) or any(not 0 < share < 1 for share in halve)
    if halve and (wrong or len(halve) != needed):
        raise UserError(f"train.shares.halve: {halve} is not {needed} ascending numbers in (0, 1)")
    if train.steps is None:
        if train.core_minutes is None:
            raise UserError("train.steps: null is for a run of train.core_minutes; say how many")
        if None in (shares.warmup, shares.evaluate):
            raise UserError("train.shares: core_minutes ask for train.shares.warmup and train.shares.evaluate")
    if train.core_minutes is not None and not 0 < train.core_minutes < MOST_MINUTES:
        raise UserError(f"train.core_minutes: {train.core_minutes} is not in (0, {MOST_MINUTES})")


def halved(train: Train) -> Train:
    """The same with all numbers of steps, of one whose `steps` are known. UserError where its rates are not compared at
    ascending steps below the last."""
    train = train.of_steps(train.steps)
    ends, rates = list(train.halve_at), train.rates
    if not ends:  # each rate is trained whole
        return train
    needed = (len(rates) - 1).bit_length() if rates else 0
    if len(ends) != needed or ends != sorted(set(ends)) or any(not 0 < end < train.steps for end in ends):
        raise UserError(
            f"train.halve_at: {ends} is not {needed} ascending numbers of steps below train.steps={train.steps}, as "
            f"{len(rates)} rates in train.rates ask for"
        )
    return train


def _workers(settings: Settings) -> None:
    devices = list(settings.devices)
    if len(set(devices)) < len(devices) or min(devices, default=0) < 0:
        raise UserError(f"devices: {devices} is not a list of GPUs, each once: a part of one measures nothing")
    if devices and settings.workers > 1:
        raise UserError(f"workers: {settings.workers} is not allowed beside devices, of which each has one")
    if devices and settings.device == "cpu":
        raise UserError(f"devices: {devices} are GPUs; device=cpu has workers=N")
    if (devices or settings.workers > 1) and settings.sweep == "cost":
        raise UserError("workers, devices: not for sweep=cost, whose points have the machine to themselves")


def _get(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = getattr(value, part)
    return value
