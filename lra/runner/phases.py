"""The phases of a run: prepare, measure, train, test."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lra import console
from lra.console import say
from lra.errors import UserError
from lra.machine import device, facts
from lra.measure.alone import measure
from lra.record.answers import packed
from lra.record.place import writable
from lra.runner.draft import Run
from lra.settings import build, compose, identity


def prepare(this: Run) -> bool:
    """Announce the run and get its data; True on the process that writes the record."""
    import torch

    from lra.floors import data_facts
    from lra.machine.device import resolve_device, resolve_dtype

    cfg = this.cfg
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is not available here; use device=cpu or device=auto")
    this.exam = build.task(cfg)
    device = resolve_device(cfg)
    this.facts["machine"] = facts.machine(device)
    this.facts["dtype"] = resolve_dtype(cfg)
    main_process = _rank() == 0
    outline(this)
    for name in ("results_dir", "output_dir"):
        writable(name, Path(cfg[name]))
    begin = time.perf_counter()
    try:
        if main_process:
            announce(this)
        this.facts["data"] = data_facts(this.exam)
    except ValueError as error:  # tasks speak in ValueErrors of one line
        raise UserError(str(error)) from error
    this.wall["data"] = time.perf_counter() - begin
    return main_process


def outline(this: Run) -> None:
    """Build the model without its weights, so that sizes that do not fit are refused at once."""
    import torch

    try:
        with torch.device("meta"):
            build.model(this.cfg, this.exam)
    except (NotImplementedError, RuntimeError):
        pass  # a constructor that needs real numbers; the real build will show what is wrong


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def announce(this: Run) -> None:
    """What runs, on what, for how long, and which command gives comparable numbers."""
    cfg, exam, where = this.cfg, this.exam, this.facts["machine"]
    say(f"{cfg.choices.model} on {exam.row}, budget {cfg.budget}, seed {cfg.seed}")
    say(
        f"{cfg.train.steps} steps of {cfg.train.batch_size} examples of up to {exam.max_len} tokens, "
        f"{this.facts['dtype']} on {where['name']} ({where['threads']} threads)"
    )
    if cfg.budget == "quick":
        say(
            "quick shows that a model learns and what it costs; for numbers to compare with other work: "
            f"python -m lra task={cfg.choices.task} model={cfg.choices.model} budget=small (or paper)"
        )


def conduct(this: Run) -> tuple[str, str | None]:
    """Measure, train, choose, test. Returns (status, reason)."""
    from lra.machine.device import accelerator
    from lra.train import checkpoint
    from lra.train.evaluate import evaluate
    from lra.train.fit import Diverged, Fit, fit
    from lra.train.progress import Progress

    cfg, exam = this.cfg, this.exam
    main_process = _rank() == 0
    if cfg.measure.enabled and main_process:
        begin = time.perf_counter()
        cost = measure(compose.plain(cfg))
        this.wall["measure"] = time.perf_counter() - begin
        this.facts["cost"] = cost
        if cost["status"] != "ok":
            return cost["status"], f"while measuring: {cost['reason']}"
        seconds = cfg.train.steps * cfg.train.batch_size / cost["train"]["examples_per_second"]
        say(
            f"measured: {console.rate(cost['train']['examples_per_second'])} training examples/s, step peak "
            f"{console.size(cost['step_peak_bytes'])}; training takes at most about {console.duration(seconds)}"
        )
    device.seed_everything(cfg.seed)
    model = build.model(cfg, exam)
    this.facts["parameters"] = sum(p.numel() for p in model.parameters())
    acc = accelerator(cfg)
    if cfg.checkpoint is not None:
        checkpoint.load(cfg.checkpoint, model, exam.vocabulary)
    model.to(acc.device)
    mirror = mirrored(this) if main_process else None
    progress = Progress(cfg.train.steps, quiet=not main_process)

    sweep = os.environ.get("LRA_SWEEP")  # the process that started this one, if it was a sweep

    def tell(**values: Any) -> None:
        if sweep is not None and os.getppid() != int(sweep):
            raise KeyboardInterrupt  # it was killed: the next one may want this very run
        progress(**values)
        if mirror is not None:
            mirror.log(**values)

    result = Fit()
    begin = time.perf_counter()
    try:
        fit(model, exam, cfg, acc, tell, out=result)
    except Diverged as error:
        return "diverged", str(error)
    finally:
        progress.close()
        this.wall["train"] = time.perf_counter() - begin
        trained(this, result)
    if result.best_state:
        model.load_state_dict(result.best_state)
    begin = time.perf_counter()
    score = evaluate(model, exam, "test", cfg, acc)
    this.wall["test"] = time.perf_counter() - begin
    this.facts |= {"accuracy_test": score.accuracy, "items_test": score.items, "loss_test": score.loss}
    this.predictions = packed(score.predictions, exam.split("test").labels)
    if result.best_state and main_process:
        place = Path(cfg.output_dir) / "checkpoints" / cfg.choices.task / cfg.choices.model
        facts = {
            "run_id": this.run_id,
            "vocabulary": exam.vocabulary,
            "config_hash": identity.config_hash(compose.plain(cfg)),
            "step": str(result.best_step),
        }
        saved = checkpoint.save(place / f"{this.run_id}.safetensors", result.best_state, facts)
        this.facts["checkpoint"] = saved.name
    return "ok", None


def mirrored(this: Run) -> Any:
    """The run's mirror, started when first asked for: after the measurement, which it would disturb."""
    from lra.runner.mirror import Mirror

    if this.mirror is None:
        config = identity.portable(compose.plain(this.cfg))
        this.mirror = Mirror(this.cfg, config, this.run_id, this.exam.row, this.facts.get("cost", {}))
    return this.mirror


def trained(this: Run, result: Any) -> None:
    """Copy what training left into the record's fields."""
    this.facts |= {"curve": result.curve, "steps_done": result.steps_done, "best_step": result.best_step}
    if result.best is not None:
        this.facts |= {"accuracy_valid": result.best.accuracy, "items_valid": result.best.items}
    if result.positions and result.seconds:
        this.facts["training"] = {
            "seconds": round(result.seconds, 3),
            "examples_per_second": result.examples / result.seconds,
            "tokens_per_second": result.tokens / result.seconds,
            "padding_share": 1 - result.tokens / result.positions,
        }
