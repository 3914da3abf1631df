"""What may be set: types, ranges, one line for a bad value, and what each field is to a run's identity.

Every field is one of three things (`kind_of`), by itself or through the group that it stands in:

experiment   shapes the result: another value is another run
condition    another value may give other costs, and numbers that agree but for rounding: not another
             run, but a recorded one counts as done only where the condition is as asked
incidental   places, names, and what a sweep asks for: never looked at

A field added after 0.1 has as its default what was done before there was the field, so that no identity
changes (lra.settings.identity leaves out what stands at its default).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

SCHEDULES = ("rsqrt", "cosine", "linear", "constant", "cosine_to_zero", "linear_to_zero")
DTYPES = ("auto", "float32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
RERUN = ("no", "failed", "all")
RESUME = ("yes", "anyway", "no")
KEEP = ("no", "best")
COST_MODES = ("fixed", "largest")
WANDB_MODES = ("disabled", "offline", "online")
COMPUTED = ("choices", "sources", "variant", "words")  # while composing: nobody sets them
EXPERIMENT, CONDITION, INCIDENTAL = "experiment", "condition", "incidental"


def of(kind: str, default: Any) -> Any:
    """A field of that kind with its default; a class or a list as default is made anew each time."""
    metadata = {"kind": kind}
    if isinstance(default, type) or callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Shares:
    """Of `train.steps`, for a budget whose number of steps is not known when it is written."""

    warmup: float | None = None  # instead of warmup_steps
    evaluate: float | None = None  # instead of eval_every
    halve: tuple[float, ...] = ()  # instead of halve_at


@dataclass(frozen=True)
class Train:
    """The training budget. One step is one optimizer step on the global batch."""

    steps: int | None = 1000  # null: as many as core_minutes hold
    core_minutes: float | None = None  # of training, all rates together; on a GPU of its time; nothing beside steps
    shares: Shares = of(EXPERIMENT, Shares)
    batch_size: int = 32
    accumulate: int = 1  # parts in which one process takes its share of the batch
    eval_every: int = 100
    eval_batch_size: int | None = None  # default: batch_size
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    grad_clip: float | None = None  # largest global norm; null: none
    diverged_at: float = 20.0  # a smoothed loss above this many times that of chance ends the run
    label_smoothing: float = 0.0
    rates: tuple[float, ...] = ()  # learning rates to choose from by successive halving; none: learning_rate
    # Steps of each rate after which the worse half goes no further; none: all rates go to the end.
    halve_at: tuple[int, ...] = ()
    average: float = 0.0  # decay of the moving average of the weights, which is what is evaluated; 0: no average
    stop_at: float | None = None  # score on valid, 0 at the exam's floor and 1 at its ceiling, that is enough

    def of_steps(self, steps: int) -> Train:
        """The same for so many steps, with what is said in shares of them."""
        shares, found = self.shares, {"steps": steps}
        if shares.warmup is not None:
            found["warmup_steps"] = round(shares.warmup * steps)
        if shares.evaluate is not None:
            found["eval_every"] = max(1, round(shares.evaluate * steps))
        if shares.halve:
            found["halve_at"] = tuple(round(share * steps) for share in shares.halve)
        return replace(self, **found)

    def within(self, most: int) -> Train:
        """The same for as many steps as take at most `most` over all rates; at least one."""
        low, high = 1, max(1, most)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.of_steps(middle).steps_in_all <= most else (low, middle - 1)
        return self.of_steps(low)

    @property
    def steps_in_all(self) -> int | None:
        """The most that a run takes, over all rates; null where its steps are not known yet."""
        if self.steps is None:
            return None
        total, begin, left = 0, 0, max(1, len(self.rates))
        for end in (*self.halve_at, self.steps):
            total += left * (end - begin)
            begin, left = end, (left + 1) // 2
        return total


@dataclass(frozen=True)
class Measure:
    """How cost is measured, before training, in a process of its own."""

    enabled: bool = True
    batch_size: int | None = None  # default: train.batch_size
    warmup_steps: int = 2
    steps: int = 10  # timed steps; fewer if `seconds` are spent, never fewer than 5
    seconds: float = 20.0
    memory_limit_gib: float | None = None  # address space of the measuring process; null: no limit


@dataclass(frozen=True)
class Cost:
    """The points of the cost curves: `python -m lra sweep=cost`."""

    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 3072, 4096, 8192, 16384, 65536)
    modes: tuple[str, ...] = ("fixed", "largest")  # batch sizes
    batch_size: int | None = None  # the fixed one; default: 1 on CPU, 32 on CUDA
    memory_gib: float | None = None  # what the largest may take; default: the GPU's; on CPU none are measured
    point_seconds: float = 120.0  # a point that takes longer is recorded as such, with status timeout


@dataclass(frozen=True)
class Data:
    """How batches are drawn."""

    bucket: bool = False
    workers: int = of(CONDITION, 0)
    pad_to: str = "longest"  # of the batch, or max: the task's length
    pad_multiple: int | None = None  # default: 1, or 128 for compiled kernels
    parts: int | None = of(
        CONDITION, None
    )  # of like length, in which a process takes its share; null: what costs least


@dataclass(frozen=True)
class Run:
    """What a run may take before whoever keeps it ends it, with a record; null: whatever it takes."""

    timeout: float | None = None  # seconds, from its start
    memory_gib: float | None = None  # of main memory, all its processes together
    stalled: float | None = None  # seconds without a step, once the data are there


@dataclass(frozen=True)
class Search:
    """Of a run that a search of settings has asked for (lra.tune)."""

    trials: int | None = None  # that each model has on an exam
    over: tuple[str, ...] = ()  # the settings that were searched
    trial: int | None = None  # which of them this is; null: what they chose
    failed: int | None = None  # of the trials of what they chose, those without an accuracy


@dataclass(frozen=True)
class Wandb:
    """The optional mirror of a run."""

    mode: str = "disabled"
    project: str = "lra"
    entity: str | None = None


@dataclass(frozen=True)
class Revision:
    """Raised in a YAML of ours when the numbers of a model, a task or the protocol change; old ones stay apart."""

    model: int = 1
    task: int = 1
    protocol: int = 1


@dataclass(frozen=True)
class Choices:
    """The files chosen in configs/task and configs/model, by name."""

    task: str = ""
    model: str = ""


@dataclass(frozen=True)
class Settings:
    """All that a run is asked to do, composed once. `task`, `model` and `treatment` are mappings that the
    classes they name check; `variant`, `words` and `sources` are worked out while composing."""

    seed: int = of(EXPERIMENT, 0)
    data_dir: str | None = of(INCIDENTAL, None)
    results_dir: str = of(INCIDENTAL, "results")
    output_dir: str = of(INCIDENTAL, "outputs")
    checkpoint: str | None = of(EXPERIMENT, None)
    rerun: str = of(INCIDENTAL, "no")  # in a sweep, what is recorded already is run again: no | failed | all
    resume: str = of(INCIDENTAL, "yes")  # from where an interrupted run stopped: yes | anyway | no
    keep: str = of(INCIDENTAL, "no")  # beside the record, the weights that were best on valid: no | best
    checkpoint_every: float = of(INCIDENTAL, 300.0)  # seconds of training that an interruption may cost, and a step
    minutes: float | None = of(INCIDENTAL, None)  # of a sweep: do what fits into them
    dry_run: bool = of(INCIDENTAL, False)  # say what would be done, and do nothing
    workers: int = of(INCIDENTAL, 1)  # of a sweep: runs side by side, each with its share of the cores
    devices: tuple[int, ...] = of(INCIDENTAL, tuple)  # of a sweep: GPUs, each with a run at a time
    device: str = of(CONDITION, "auto")
    threads: int | None = of(CONDITION, None)
    dtype: str = of(CONDITION, "auto")
    compile: bool = of(EXPERIMENT, False)
    test: bool = of(EXPERIMENT, True)  # false: the test is not looked at, as in a search of settings
    budget: str = of(EXPERIMENT, "quick")
    name: str | None = of(INCIDENTAL, None)  # free text, kept in the record
    claims: Mapping[str, float] = of(INCIDENTAL, dict)
    exam: Mapping[str, Any] = of(INCIDENTAL, dict)  # what tables show of the task
    about: Mapping[str, Any] = of(INCIDENTAL, dict)  # what tables show of the model
    revision: Revision = of(EXPERIMENT, Revision)
    data: Data = of(EXPERIMENT, Data)
    size: Size = of(EXPERIMENT, Size)
    train: Train = of(EXPERIMENT, Train)
    measure: Measure = of(CONDITION, Measure)
    cost: Cost = of(INCIDENTAL, Cost)
    run: Run = of(INCIDENTAL, Run)
    search: Search = of(INCIDENTAL, Search)
    wandb: Wandb = of(INCIDENTAL, Wandb)
    choices: Choices = of(EXPERIMENT, Choices)
    task: Mapping[str, Any] = of(EXPERIMENT, dict)
    model: Mapping[str, Any] = of(EXPERIMENT, dict)
    treatment: Mapping[str, Any] = of(EXPERIMENT, dict)
    sources: Mapping[str, str] = of(EXPERIMENT, dict)  # class of somebody else's -> digest of its source
    launcher: Mapping[str, Any] = of(INCIDENTAL, dict)  # who has the runs of a sweep done
    sweep: str | None = of(INCIDENTAL, None)
    variant: tuple[str, ...] = of(INCIDENTAL, tuple)  # what departs from the budget's standard run
    words: tuple[str, ...] = of(INCIDENTAL, tuple)  # that compose it again (lra.settings.again)


@cache
def types_of(schema: type) -> Mapping[str, Any]:
    """Of each field; evaluating them takes longer than all that is done with them."""
    return get_type_hints(schema)


def kind_of(name: str, schema: type = Settings) -> str:
    """What the field `name` ("train.steps") is to a run's identity; KeyError if there is none."""
    kind = None
    for part in name.split("."):
        known = {f.name: f for f in fields(schema)} if is_dataclass(schema) else None
        if known is None:  # below a mapping
            break
        kind = known[part].metadata.get("kind", kind)
        schema = types_of(schema)[part]
    if kind is None:
        raise KeyError(name)
    return kind
