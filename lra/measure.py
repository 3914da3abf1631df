"""Speed and peak memory of one training step, in a process of its own (see lra.turns for several).

    python -m lra.measure task=listops model=performer      prints what a run would record
    python -m lra.measure --self-test                       measures programs whose answer is known

One definition on CPU and CUDA (design: one process a measurement, synthetic full-length batch):

step peak   the most bytes live in the framework's allocator during one full step (forward,
            backward, clip, optimizer), above what was live when the step began, after at least two
            unmeasured full steps, gradients set to None before
resident    bytes of the unique storages of parameters, buffers, optimizer state and batch
examples/s  batch size over the median time of the timed steps; warm-up is untimed
paces       rate of a small matrix product after each timed step (CPU only), to tell a slow hour of the
            machine from a slow model
conditions  threads, load, cores busy with other work, clock noise (lra.conditions); a measurement on
            a disturbed machine is made once more and, if that is disturbed too, marked
FLOPs       of one step, counted on the meta device by torch's FlopCounterMode: matrix products,
            convolutions and attention (as its plain formula, backward twice forward); FFT, softmax,
            norms, gathers and elementwise work count 0
"""

from __future__ import annotations

import os

# Spinning OpenMP threads make a step 3 to 5 times slower on busy cores. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from lra.errors import first_line
from lra.record import PHASES
from lra.session import READY, Session, failure

if TYPE_CHECKING:
    from lra.conditions import Pace

LEAST_STEPS = 5  # that are timed, however long they take
COLD = 0.05  # seconds of a step to which empty caches matter
ONE = SimpleNamespace(steps=1, seconds=0.0)
OOM_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_cpu")


def measure(config: dict[str, Any], timeout: float = 3600.0) -> dict[str, Any]:
    """Measure `config` (plain, resolved) in a fresh child. Never raises for what the child meets.

    Returns {"status": "ok" | "oom" | "timeout" | "failed", "reason": str | None, ...numbers, null if
    absent}; "timeout" as soon as the warm-up shows that `timeout` seconds will not do.
    One that the machine disturbed is repeated, and the less disturbed of the two kept.
    """
    first = attempt(config, timeout)
    return calmer([first], [attempt(config, timeout)])[0] if is_disturbed(first) else first


def is_disturbed(found: dict[str, Any]) -> bool:
    return found["status"] == "ok" and found["disturbed"]


def calmer(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of measurements made together and their repetition, those to keep."""

    def trouble(found: list[dict[str, Any]]) -> tuple[int, int, float]:
        ok = [r for r in found if r["status"] == "ok"]
        others = sum(r["conditions"]["other_cores"] or 0.0 for r in ok)
        return len(found) - len(ok), sum(r["disturbed"] for r in ok), others

    return [r | {"attempts": 2} for r in min(first, second, key=trouble)]


def attempt(config: dict[str, Any], timeout: float) -> dict[str, Any]:
    """One measurement in a fresh child, all in one turn."""
    with Session(config, timeout) as session:
        if session.prepare():
            session.turn({key: config["measure"][key] for key in ("steps", "seconds")})
        return session.finish()


def is_oom(error: BaseException) -> bool:
    """True for every way in which torch and Python say that memory has run out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in OOM_WORDS)
    )


class Measurement:
    """The measurement itself, in this process: prepared and warmed up, then timed turn by turn.

    `failed` is set if it is known already that there will be no times.
    """

    def __init__(self, config: dict[str, Any], parent: int, timeout: float) -> None:
        import torch
        from omegaconf import OmegaConf

        from lra import compose
        from lra.conditions import Pace, Watch
        from lra.machine import seed_everything
        from lra.optim import optimizer
        from lra.train import resolve_device, resolve_dtype

        cfg = OmegaConf.create(config)
        if cfg.measure.memory_limit_gib is not None:
            limit_memory(cfg.measure.memory_limit_gib)
        self.device = device = torch.device(resolve_device(cfg))
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        seed_everything(cfg.seed)
        exam = compose.task(cfg)
        self.model = model = compose.model(cfg, exam)
        size = cfg.measure.batch_size or cfg.train.batch_size
        shape = (size, exam.max_len) if exam.documents == 1 else (size, exam.documents, exam.max_len)
        self.result: dict[str, Any] = {
            "status": "ok",
            "reason": None,
            "batch_size": size,
            "length": exam.max_len,
            "documents": exam.documents,
            "parameters": sum(p.numel() for p in model.parameters()),
            **flops(model, shape, exam),
        }
        model.to(device)
        tokens = torch.randint(1, exam.vocab_size, shape, device=device)
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        labels = torch.randint(exam.num_classes, (size,), device=device)
        opt = optimizer(model.parameters(), cfg.train)
        net = torch.compile(model) if cfg.compile else model
        bf16 = resolve_dtype(cfg) == "bf16"

        def forward() -> torch.Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                return net(tokens, mask)

        def step() -> None:
            if os.getppid() != parent:
                raise SystemExit(1)  # nobody waits for the answer any more
            torch.nn.functional.cross_entropy(forward().float(), labels).backward()
            if cfg.train.grad_clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.train.grad_clip)
            opt.step()
            opt.zero_grad(set_to_none=True)

        @torch.no_grad()
        def infer() -> None:
            forward()

        self.phases = dict(zip(PHASES, (step, infer), strict=True))
        self.times: dict[str, list[Timing]] = {phase: [] for phase in self.phases}
        self.sizes = size, tokens.numel()
        self.failed: dict[str, Any] | None = None
        model.train()
        warm = [timed(step, ONE, device)[0].wall for _ in range(cfg.measure.warmup_steps)]
        to_come = 1 + min(LEAST_STEPS, cfg.measure.steps)
        if sum(warm) + warm[-1] * to_come > timeout:
            text = f"a step takes {warm[-1]:.1f} s, and measuring it more than {timeout:.0f} s"
            self.failed = failure("timeout", text)
            return
        self.result["step_peak_bytes"] = step_peak_bytes(step, device)
        self.result["resident_bytes"] = resident_bytes(
            [*model.parameters(), *model.buffers(), tokens, mask, labels, *optimizer_tensors(opt)]
        )
        model.eval()
        infer()
        self.pace = Pace() if device.type == "cpu" else None
        self.watch = Watch(torch.get_num_threads())

    def turn(self, limits: Any) -> None:
        """Time steps of both phases. limits: as for `timed`. From the second turn on a first step is not
        counted where steps are short: what others did meanwhile has emptied the caches."""
        with self.watch:
            for phase, step in self.phases.items():
                self.model.train(phase == "train")
                known = self.times[phase]
                if known and known[-1].wall < COLD:
                    timed(step, ONE, self.device)
                known += timed(step, limits, self.device, self.pace)

    def finish(self) -> dict[str, Any]:
        """What `measure` returns."""
        from lra.conditions import disturbed

        if self.failed or not self.times["train"]:
            return self.failed or failure("failed", "no step was timed")
        for phase, times in self.times.items():
            self.result[phase] = rates(times, *self.sizes)
        self.result["conditions"] = self.watch.facts
        self.result["disturbed"] = disturbed(self.watch.facts, self.result["train"], self.result["inference"])
        self.result["attempts"] = 1
        return self.result


class Timing(NamedTuple):
    """Of one step: wall and CPU seconds, and the machine's pace right after it, FLOPs per second."""

    wall: float
    cpu: float
    pace: float | None = None


def timed(step: Callable[[], None], limits: Any, device: Any, pace: Pace | None = None) -> list[Timing]:
    """Up to `limits.steps` steps, as many as begin within `limits.seconds`, but not fewer than
    `limits.least`, by default LEAST_STEPS."""
    import torch

    times: list[Timing] = []
    begin = time.perf_counter()
    least = min(getattr(limits, "least", LEAST_STEPS), limits.steps)
    while len(times) < least or (len(times) < limits.steps and time.perf_counter() - begin < limits.seconds):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append(Timing(wall, cpu, pace.rate(wall) if pace else None))
    return times


def rates(times: list[Timing], examples: int, tokens: int) -> dict[str, Any]:
    """Median, least and interquartile range of the step times, and what follows from the median."""
    wall = [t.wall for t in times]
    low, median, high = statistics.quantiles(wall, n=4, method="inclusive")
    return {
        "examples_per_second": examples / median,
        "tokens_per_second": tokens / median,
        "seconds_median": median,
        "seconds_min": min(wall),
        "seconds_iqr": high - low,
        "cpu_seconds_median": statistics.median(t.cpu for t in times),
        "steps": len(times),
        "seconds": [round(w, 6) for w in wall],
        "paces": None if times[0].pace is None else [round(t.pace) for t in times],
    }


def step_peak_bytes(step: Callable[[], None], device: Any = None) -> int:
    """Peak of live allocator bytes during `step()` above those live at its start.

    On CPU the running sum of torch.profiler's memory events, which also sees what kernels take
    inside; exact and repeatable to the byte. Gradients must be None before.
    """
    import torch

    gc.collect()
    if device is not None and torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]" and event["args"].get("Device Type") == 0
    ]
    live = peak = 0
    for _, change in sorted(changes, key=lambda c: c[0]):
        live += change
        peak = max(peak, live)
    return peak


def resident_bytes(tensors: Iterable[Any]) -> int:
    """Bytes of the unique storages behind `tensors`."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def optimizer_tensors(opt: Any) -> list[Any]:
    import torch

    return [v for state in opt.state.values() for v in state.values() if isinstance(v, torch.Tensor)]


def flops(model: Any, shape: tuple[int, ...], exam: Any) -> dict[str, Any]:
    """FLOPs of one training step and of one inference batch on the meta device; null with a reason
    where the model cannot run there."""
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def count(train: bool) -> int:
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
            logits = twin.train(train)(tokens, mask)
            if train:
                torch.nn.functional.cross_entropy(logits, labels).backward()
        return counter.get_total_flops()

    try:
        twin = copy.deepcopy(model).to("meta")
        tokens = torch.zeros(shape, dtype=torch.long, device="meta")
        mask = torch.ones(shape, dtype=torch.bool, device="meta")
        labels = torch.zeros(shape[0], dtype=torch.long, device="meta")
        return {"train_flops": count(True), "inference_flops": count(False), "flops_reason": None}
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        reason = f"not countable on the meta device: {first_line(error)}"
        return {"train_flops": None, "inference_flops": None, "flops_reason": reason}


def limit_memory(gib: float) -> None:
    import resource

    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """As a child: on standard input the config and then the limits of each turn, a line of JSON each; on
    standard output READY when it waits for the next; the answer to a file. By hand: options, a table."""
    if sys.argv[1:2] == ["--child"]:
        answer, parent, timeout = Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
        try:
            this = Measurement(json.loads(sys.stdin.readline()), parent, timeout)
            if this.failed is None:
                print(READY, flush=True)
                for line in sys.stdin:
                    this.turn(SimpleNamespace(**json.loads(line)))
                    print(READY, flush=True)
            result = this.finish()
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            result = failure(
                "oom", (str(error).splitlines() or ["out of memory"])[0].split("DefaultCPUAllocator: ")[-1]
            )
        draft = answer.with_suffix(".draft")
        draft.write_text(json.dumps(result))
        draft.rename(answer)
        return 0
    if sys.argv[1:2] == ["--self-test"]:
        from lra.selftest import main as self_test

        return self_test(sys.argv[2:])
    from lra import compose

    cfg = compose.config(sys.argv[1:])
    result = measure(compose.plain(cfg))
    print(json.dumps(result, indent=1))
    return 0 if result["status"] == "ok" else 1


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
