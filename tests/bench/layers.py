"""One layer, ours against the package from PyPI: time and step peak memory, forward and backward.

    python -m tests.bench.layers                      every case, at its lengths
    python -m tests.bench.layers local --length 4096 --rounds 15
    python -m tests.bench.layers local --device cuda --dtype bfloat16

Width 256, four heads, float32, no dropout, projections included, input that needs a gradient;
batch 2 up to 8,192 positions and 1 above. Each side lives in a process of its own with the same
environment, so that neither warms the other's allocator, and the two take turns; where a process
lies in memory moves its times by tenths, so that --pairs starts several. CPU: time is
process time over all threads, so that a busy machine disturbs it little. CUDA: wall time between
synchronisations. What is printed is the median. Memory is the most bytes live in the framework's
allocator during a step above those live at its start.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from lra.measure.gauges import step_peak_bytes
from tests.bench import recent  # noqa: F401 (its cases)
from tests.bench.peers import CASES, DIM, Case

MiB = 2**20
# An idle OpenMP thread that spins is counted as work: both sides wait passively.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "5"}


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds and bytes of one forward and backward pass."""

    case: str
    peer: str
    length: int
    batch: int
    ours_seconds: float
    peer_seconds: float
    ours_bytes: int
    peer_bytes: int
    bar: float

    @property
    def time_ratio(self) -> float:
        return self.ours_seconds / self.peer_seconds

    @property
    def memory_ratio(self) -> float:
        return self.ours_bytes / self.peer_bytes

    @property
    def holds(self) -> bool:
        return self.time_ratio <= self.bar and self.memory_ratio <= 1


def missing(case: Case) -> bool:
    """True if the package of the peer is not installed."""
    return importlib.util.find_spec(case.module) is None


def training_step(layer: nn.Module, length: int, batch: int, device: str, dtype: torch.dtype, ours: bool) -> Callable:
    """A forward and backward pass that leaves no gradient behind."""
    layer = layer.to(device=device, dtype=dtype).train()
    torch.manual_seed(0)
    x = torch.randn(batch, length, DIM, device=device, dtype=dtype, requires_grad=True)
    back = torch.randn(batch, length, DIM, device=device, dtype=dtype)
    mask = torch.ones(batch, length, dtype=torch.bool, device=device)

    def step() -> None:
        y = layer(x, mask) if ours else layer(x)
        y.backward(back)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    return step


def serve(pipe, name: str, ours: bool, length: int, batch: int, threads: int, device: str, dtype: str) -> None:
    """The measuring process: answers "time" with seconds, "memory" with bytes."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer = CASES[name].pair(length)[0 if ours else 1]()
    step = training_step(layer, length, batch, device, getattr(torch, dtype), ours)
    clock = time.perf_counter if device == "cuda" else time.process_time
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    step()
    step()
    pipe.send("ready")
    while (question := pipe.recv()) != "stop":
        if question == "memory":
            pipe.send(step_peak_bytes(step, device))
            continue
        synchronize()
        start = clock()
        step()
        synchronize()
        pipe.send(clock() - start)


def compare(
    case: Case,
    length: int,
    rounds: int = 9,
    threads: int = 2,
    device: str = "cpu",
    dtype: str = "float32",
    pairs: int = 1,
) -> Row:
    """Measure one case at one length: in each of `pairs` pairs of fresh processes, `rounds` steps a side."""
    os.environ.update(ENVIRONMENT)
    batch = 2 if length <= 8192 else 1
    context = multiprocessing.get_context("spawn")
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        sides = []
        for ours in (True, False):
            here, there = context.Pipe()
            arguments = (there, case.name, ours, length, batch, threads, device, dtype)
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            there.close()
            if here.recv() != "ready":
                raise RuntimeError(f"{case.name}: the measuring process did not start")
            sides.append((here, process))

        for _ in range(rounds):
            for (pipe, _), taken in zip(sides, seconds, strict=True):
                taken.append(ask(pipe, "time"))
        sizes = [ask(pipe, "memory") for pipe, _ in sides]
        for pipe, process in sides:
            pipe.send("stop")
            process.join()
    times = [statistics.median(s) for s in seconds]
    return Row(case.name, case.peer, length, batch, times[0], times[1], sizes[0], sizes[1], case.bar)


def ask(pipe: Connection, question: str) -> float:
    pipe.send(question)
    return pipe.recv()


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| layer | peer | L | B | ours ms | peer ms | time | bar | ours MiB | peer MiB | memory | holds |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r.case} | {r.peer} | {r.length} | {r.batch} | {r.ours_seconds * 1e3:.0f} | {r.peer_seconds * 1e3:.0f}"
            f" | {r.time_ratio:.2f} | {r.bar:.2f} | {r.ours_bytes / MiB:.1f} | {r.peer_bytes / MiB:.1f}"
            f" | {r.memory_ratio:.2f} | {'yes' if r.holds else 'NO'} |"
        )
    return "\n".join(lines)


def stolen_seconds() -> float:
    """Processor time that the host of this virtual machine gave to others when this one wanted it.

    It inflates CPU time, and that of the side with more threads at work more; 0 where unknown.
    """
    stat = Path("/proc/stat")
    return int(stat.read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK") if stat.exists() else 0.0


def conditions(threads: int, device: str, dtype: str, stolen: float) -> str:
    """One line that names what the numbers depend on besides the code; stolen: cores' worth of time."""
    allocator = {k: v for k, v in os.environ.items() if k.startswith("MALLOC_") or k == "LD_PRELOAD"}
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {threads} threads"
    settings = ", ".join(f"{k}={v}" for k, v in sorted(allocator.items())) or "the system's defaults"
    host = f"the host took {stolen:.2f} cores meanwhile"
    return f"torch {torch.__version__}, {where}, {dtype}; allocator: {settings}; OMP_WAIT_POLICY=PASSIVE; {host}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--length", type=int, action="append", help="instead of the case's own lengths")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=1, help="of processes, one after the other")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--json", action="store_true", help="print records instead of the table")
    options = parser.parse_args()
    rows: list[Row] = []
    begin, stolen = time.perf_counter(), stolen_seconds()
    for name in options.cases or CASES:
        if name not in CASES:
            parser.error(f"case: {name!r} is not one of {', '.join(CASES)}")
        if missing(CASES[name]):
            print(f"{name}: {CASES[name].module} is not installed (extra `peers`)", file=sys.stderr)
            continue
        for length in options.length or CASES[name].lengths:
            how = options.rounds, options.threads, options.device, options.dtype, options.pairs
            rows.append(compare(CASES[name], length, *how))
            print(
                f"{name} {length}: {rows[-1].time_ratio:.2f} in time, {rows[-1].memory_ratio:.2f} in bytes",
                file=sys.stderr,
            )
    if options.json:
        print(json.dumps([asdict(r) for r in rows], indent=1))
    else:
        stolen = (stolen_seconds() - stolen) / (time.perf_counter() - begin)
        print(conditions(options.threads, options.device, options.dtype, stolen), table(rows), sep="\n\n")
    return 0 if all(r.holds for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
