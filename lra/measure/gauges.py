"""Bytes, seconds and FLOPs of a step, in this process. What each means: lra.measure."""

from __future__ import annotations

import gc
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra.errors import first_line
from lra.machine.heartbeat import beat
from lra.measure.cost import Limits, Timing
from lra.uncompiled import uncompiled

if TYPE_CHECKING:
    from lra.machine.pace import Pace

OOM_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_cpu")


def is_oom(error: BaseException) -> bool:
    """True for every way in which torch and Python say that memory has run out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in OOM_WORDS)
    )


def timed(step: Callable[[], None], limits: Limits, device: Any, pace: Pace | None = None) -> list[Timing]:
    """Wall and CPU seconds of steps, as many as the limits say."""
    import torch

    times: list[Timing] = []
    begin = time.perf_counter()
    least = min(limits.least, limits.steps)
    while len(times) < least or (len(times) < limits.steps and time.perf_counter() - begin < limits.seconds):
        beat()
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append(Timing(wall, cpu, pace.rate(wall) if pace else None))
    return times


def step_peak_bytes(step: Callable[[], None], device: Any = None) -> int:
    """Peak of live allocator bytes during `step()` above those live at its start.

    On CPU the running sum of torch's profiler's memory events, which also sees what kernels take
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
    # What torch.profiler is made of: that one loads the compiler, only to ask how it is set.
    from torch.autograd.profiler import profile

    with profile(use_kineto=True, profile_memory=True) as profiler:
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


def flops(model: Any, batch: Any) -> dict[str, Any]:
    """FLOPs of one training step and of one inference batch on the meta device, where `batch` is too; null
    with a reason where the model cannot run there. The loss counts nothing: it multiplies no matrices."""
    import copy

    import torch

    from lra.machine.flops import counter

    def count(train: bool) -> int:
        with counter() as counted, torch.set_grad_enabled(train):
            # The counter hooks itself to what needs a gradient, and in inference fails at a view of a parameter.
            output = twin.train(train).requires_grad_(train)(batch.tokens, batch.mask)
            if train:
                output.float().sum().backward()
        return counted.get_total_flops()

    try:
        twin = copy.deepcopy(model).to("meta")
        with uncompiled():
            return {"train_flops": count(True), "inference_flops": count(False), "flops_reason": None}
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        reason = f"not countable on the meta device: {first_line(error)}"
        return {"train_flops": None, "inference_flops": None, "flops_reason": reason}


def limit_memory(gib: float) -> None:
    import resource

    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what torch's profiler writes to it about itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def slope(lengths: Sequence[int], costs: Sequence[float]) -> float:
    """Least squares of log cost on log length."""
    x, y = [math.log(n) for n in lengths], [math.log(max(c, 1e-9)) for c in costs]
    return statistics.linear_regression(x, y).slope
