"""What `config.yaml` may hold outside `task` and `model`: types, ranges, one line for a bad value.

Registered as Hydra structured configs, so that a value of a wrong type is refused while composing;
`checked` adds the ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lra.errors import UserError

SCHEDULES = ("rsqrt", "cosine", "linear", "constant")
DTYPES = ("auto", "float32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
COST_MODES = ("fixed", "largest")
WANDB_MODES = ("disabled", "offline", "online")


@dataclass
class Size:
    """Sizes shared by all models of a task."""

    depth: int = 2
    dim: int = 64
    heads: int = 2
    qkv_dim: int = 64
    mlp_dim: int = 128
    dropout: float = 0.1
    attention_dropout: float = 0.1
    pooling: str = "mean"
    position: str = "learned"


@dataclass
class Train:
    """The training budget. One step is one optimizer step on the global batch."""

    steps: int = 1000
    batch_size: int = 32
    accumulate: int = 1  # parts in which one process takes its share of the batch
    eval_every: int = 100
    eval_batch_size: int | None = None  # default: batch_size
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    grad_clip: float | None = None  # largest global norm; null: none
    diverged_at: float = 20.0  # a smoothed loss above this many times that of chance ends the run
    label_smoothing: float = 0.0


@dataclass
class Measure:
    """How cost is measured, before training, in a process of its own."""

    enabled: bool = True
    batch_size: int | None = None  # default: train.batch_size
    warmup_steps: int = 2
    steps: int = 10  # timed steps; fewer if `seconds` are spent, never fewer than 5
    seconds: float = 20.0
    memory_limit_gib: float | None = None  # address space of the measuring process; null: no limit


@dataclass
class Cost:
    """The points of the cost curves: `python -m lra sweep=cost`."""

    lengths: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048, 3072, 4096, 8192, 16384, 65536])
    modes: list[str] = field(default_factory=lambda: ["fixed", "largest"])  # batch sizes
    batch_size: int | None = None  # the fixed one; default: 1 on CPU, 32 on CUDA
    memory_gib: float | None = None  # what the largest may take; default: the GPU's; on CPU none are measured
    point_seconds: float = 120.0  # a point that takes longer is recorded as such, with status timeout


@dataclass
class Data:
    """How batches are drawn."""

    bucket: bool = False
    workers: int = 0
    pad_to: str = "longest"  # of the batch, or max: the task's length
    pad_multiple: int | None = None  # default: 1, or 128 for compiled kernels


@dataclass
class Wandb:
    """The optional mirror of a run."""

    mode: str = "disabled"
    project: str = "lra"
    entity: str | None = None


@dataclass
class Settings:
    """The top level. `task` and `model` are checked by the classes they name."""

    seed: int = 0
    data_dir: str | None = None
    results_dir: str = "results"
    output_dir: str = "outputs"
    checkpoint: str | None = None
    rerun: bool = False
    minutes: float | None = None  # of a sweep: do what fits into them
    device: str = "auto"
    threads: int | None = None
    dtype: str = "auto"
    compile: bool = False
    budget: str = "quick"
    name: str | None = None  # free text, kept in the record
    claims: dict[str, float] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    size: Size = field(default_factory=Size)
    train: Train = field(default_factory=Train)
    measure: Measure = field(default_factory=Measure)
    cost: Cost = field(default_factory=Cost)
    wandb: Wandb = field(default_factory=Wandb)
    task: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    sweep: Any = None
    launcher: dict[str, Any] = field(default_factory=dict)  # who has the runs of a sweep done


def register() -> None:
    """Make the types known to Hydra as the config `settings`."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="settings", node=Settings)


def checked(cfg: Any) -> Any:
    """Return `cfg`; UserError for a value out of range."""

    def at_least(low: float, *names: str) -> None:
        for name in names:
            value = _get(cfg, name)
            if value is not None and not value >= low:
                raise UserError(f"{name}: {value} is not allowed; it must be at least {low}")

    def one_of(allowed: tuple[str, ...], name: str) -> None:
        if _get(cfg, name) not in allowed:
            raise UserError(f"{name}: {_get(cfg, name)!r} is not one of {', '.join(allowed)}")

    at_least(0, "seed", "train.steps", "train.warmup_steps", "train.weight_decay", "data.workers", "measure.seconds")
    at_least(1, "train.batch_size", "train.accumulate", "train.eval_every", "train.eval_batch_size", "threads")
    at_least(1, "size.depth", "size.dim", "size.heads", "size.qkv_dim", "size.mlp_dim", "measure.batch_size")
    at_least(1, "data.pad_multiple", "cost.batch_size", "cost.point_seconds")
    one_of(("longest", "max"), "data.pad_to")
    at_least(3, "measure.steps")
    at_least(2, "measure.warmup_steps")
    at_least(1e-12, "train.learning_rate", "train.eps", "train.grad_clip", "measure.memory_limit_gib")
    at_least(1e-3, "cost.memory_gib")
    at_least(1.0, "train.diverged_at")
    for name in ("size.dropout", "size.attention_dropout", "train.label_smoothing"):
        if not 0 <= _get(cfg, name) < 1:
            raise UserError(f"{name}: {_get(cfg, name)} is not in [0, 1)")
    betas = list(cfg.train.betas)
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise UserError(f"train.betas: {betas} is not two numbers in [0, 1)")
    one_of(SCHEDULES, "train.schedule")
    one_of(DTYPES, "dtype")
    one_of(DEVICES, "device")
    one_of(WANDB_MODES, "wandb.mode")
    if cfg.minutes is not None and cfg.sweep == "cost":
        raise UserError("minutes: not for sweep=cost; choose fewer points there, as cost.lengths=[1024,4096]")
    if not cfg.cost.lengths or min(cfg.cost.lengths) < 1:
        raise UserError(f"cost.lengths: {list(cfg.cost.lengths)} is not a list of lengths of at least 1")
    if not cfg.cost.modes or not set(cfg.cost.modes) <= set(COST_MODES):
        raise UserError(f"cost.modes: {list(cfg.cost.modes)} is not a list of {', '.join(COST_MODES)}")
    if cfg.train.batch_size % cfg.train.accumulate:
        raise UserError(
            f"train.accumulate: {cfg.train.accumulate} does not divide train.batch_size {cfg.train.batch_size}"
        )
    return cfg


def _get(cfg: Any, name: str) -> Any:
    for part in name.split("."):
        cfg = cfg[part]
    return cfg
