"""One run from start to record: data, cost, training, test, record, a short table."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra import compose, machine, record, report
from lra.errors import INTERRUPTED, UserError, first_line
from lra.measure import is_oom, measure
from lra.record import Record


@dataclass
class Run:
    """What a run knows so far; whatever ends it, this becomes the record."""

    cfg: Any
    started_utc: str
    run_id: str
    exam: Any = None
    facts: dict[str, Any] = field(default_factory=dict)  # fields of the record
    wall: dict[str, float] = field(default_factory=dict)
    predictions: bytes | None = None
    mirror: Any = None

    def record(self, status: str, reason: str | None = None) -> Record:
        cfg, config = self.cfg, compose.plain(self.cfg)
        commit, dirty = machine.commit()
        return Record(
            **{
                "run_id": self.run_id,
                "started_utc": self.started_utc,
                "kind": "model",
                "status": status,
                "reason": reason,
                "task": cfg.choices.task,
                "model": cfg.choices.model,
                "budget": cfg.budget,
                "row": self.exam.row,
                "seed": cfg.seed,
                "config": record.portable(config),
                "config_hash": record.config_hash(config),
                "variant": list(cfg.variant),
                "length": self.exam.max_len,
                "batch_size": cfg.train.batch_size,
                "steps_budget": cfg.train.steps,
                "versions": machine.versions(),
                "commit": commit,
                "dirty": dirty,
                "wall_seconds": {k: round(v, 3) for k, v in self.wall.items()},
            }
            | self.facts
        )


def run(cfg: Any) -> int:
    """Do what the configuration says and leave one record. Returns the exit code.

    0 ok; 1 oom, diverged or failed; 130 interrupted. Raises UserError, before anything is
    recorded, for bad input. A failure of the code itself is a record too, and a traceback.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    started, run_id = record.new_id()
    this = Run(cfg, started, run_id)
    begin = time.perf_counter()
    path, main_process = None, True
    try:
        main_process = prepare(this)
        try:
            status, reason = conduct(this)
        except KeyboardInterrupt:
            status, reason = "interrupted", "stopped by the user or the system"
        except UserError:
            raise
        except Exception as error:
            if is_oom(error):
                status, reason = "oom", first_line(error)
            else:
                traceback.print_exc()
                status, reason = "failed", f"{type(error).__name__}: {first_line(error)}"
    except KeyboardInterrupt:
        if this.exam is None or "data" not in this.facts:
            raise
        status, reason = "interrupted", "stopped while the run was being prepared"
    this.wall["total"] = time.perf_counter() - begin
    if main_process:
        path = save(this, status, reason)
        table = show(this, status, reason, path)
        mirrored(this).finish(record.read(path), path, table)
    return {"ok": 0, "interrupted": INTERRUPTED}.get(status, 1)


def _as_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def prepare(this: Run) -> bool:
    """Announce the run and get its data; True on the process that writes the record."""
    import torch

    from lra.floors import data_facts
    from lra.train import resolve_device, resolve_dtype

    cfg = this.cfg
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is not available here; use device=cpu or device=auto")
    this.exam = compose.task(cfg)
    device = resolve_device(cfg)
    this.facts["machine"] = machine.machine(device)
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


def writable(name: str, folder: Path) -> None:
    """Refuse a folder that cannot take the result before hours are spent on making it."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"lra")
        probe.unlink()
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be written ({error.strerror}); choose another folder") from error


def outline(this: Run) -> None:
    """Build the model without its weights, so that sizes that do not fit are refused at once."""
    import torch

    try:
        with torch.device("meta"):
            compose.model(this.cfg, this.exam)
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


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def conduct(this: Run) -> tuple[str, str | None]:
    """Measure, train, choose, test. Returns (status, reason)."""
    from lra import checkpoint
    from lra.progress import Progress
    from lra.train import Diverged, Fit, accelerator, evaluate, fit

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
            f"measured: {report.rate(cost['train']['examples_per_second'])} training examples/s, step peak "
            f"{report.size(cost['step_peak_bytes'])}; training takes at most about {report.duration(seconds)}"
        )
    machine.seed_everything(cfg.seed)
    model = compose.model(cfg, exam)
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
            "config_hash": record.config_hash(compose.plain(cfg)),
            "step": str(result.best_step),
        }
        saved = checkpoint.save(place / f"{this.run_id}.safetensors", result.best_state, facts)
        this.facts["checkpoint"] = saved.name
    return "ok", None


def mirrored(this: Run) -> Any:
    """The run's mirror, started when first asked for: after the measurement, which it would disturb."""
    from lra.mirror import Mirror

    if this.mirror is None:
        config = record.portable(compose.plain(this.cfg))
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


def packed(predictions: Any, labels: Any) -> bytes:
    """The predicted and the right class of each test item, in order, as a compressed npz.

    With the labels beside them, two models can be compared item by item without the data.
    """
    import numpy as np

    arrays = {"predictions": np.asarray(predictions), "labels": np.asarray(labels)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: v.astype(np.min_scalar_type(int(v.max()))) for k, v in arrays.items()})
    return buffer.getvalue()


def save(this: Run, status: str, reason: str | None) -> Path:
    """Predictions first, then the record that names them: a record is never half of the truth."""
    results = Path(this.cfg.results_dir)
    if this.predictions is not None and status == "ok":
        name = f"{this.run_id}.predictions.npz"
        record.write_once(record.folder(results, this.record(status)) / name, this.predictions)
        digest = hashlib.sha256(this.predictions).hexdigest()
        this.facts["predictions"] = {"file": name, "sha256": digest, "items": this.facts["items_test"]}
    return record.write(results, this.record(status, reason))


def show(this: Run, status: str, reason: str | None, path: Path) -> list[tuple[str, float, float, float]]:
    """The short table at the end: accuracy among the floors, speed, memory, where the record lies.

    Returns its rows, best first: name, accuracy, 95 % interval from and to.
    """
    from lra.floors import score, scored
    from lra.skill import best_floor, skill
    from lra.stats import wilson

    facts = this.facts
    rows: list[tuple[str, float, float, float]] = []
    if facts.get("accuracy_test") is not None:
        score(this.cfg, this.exam, this.exam.rules(), facts=facts["data"])
        floors = {name: r.accuracy_test for name, r in scored(this.cfg, facts["data"]["fingerprint"]).items()}
        scores = {this.cfg.choices.model: facts["accuracy_test"]} | {f"floor: {n}": a for n, a in floors.items()}
        rows = [(name, a, *map(float, wilson(a, facts["items_test"]))) for name, a in scores.items()]
        rows.sort(key=lambda line: line[1], reverse=True)
        print(f"\n{this.exam.row}, {facts['items_test']} test items")
        lines = [[name, report.percent(a), f"{100 * low:.1f} to {100 * high:.1f}"] for name, a, low, high in rows]
        print(report.table(lines, ["", "accuracy", "95 % interval"]))
        floor = best_floor(floors.items(), this.exam.local_rules)
        if floor is None:
            print(f"skill: not known before python -m lra.floors task={this.cfg.choices.task} budget={this.cfg.budget}")
        elif (gained := skill(facts["accuracy_test"], floor[1])) is not None:
            print(f"skill: {gained:.3f} (0: {floor[0]}, 1: all right)")
    cost = facts.get("cost", {})
    if cost.get("status") == "ok":
        print(
            f"\n{report.rate(cost['train']['examples_per_second'])} training examples/s, "
            f"{report.rate(cost['inference']['examples_per_second'])} inference examples/s, "
            f"step peak {report.size(cost['step_peak_bytes'])}, {facts.get('parameters', 0):,} parameters"
        )
    print(f"status: {status}" + (f" ({reason})" if reason else ""))
    print(f"record: {path}", flush=True)
    return rows
