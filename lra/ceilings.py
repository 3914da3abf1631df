"""What this machine can do at best: matrix products and copies.

    python -m lra.ceilings [device=auto|cpu|cuda] [threads=N]

A method that takes long because its FLOPs are many, and one that takes long because its
implementation leaves the machine idle, look alike in examples/s. Beside these ceilings they do not:
the share of the GEMM ceiling that a step reaches is its FLOPs per second over the rate here.

GEMM    2 n^3 FLOPs over the least time of a square product, in float32 and in bf16
copy    bytes read plus bytes written over the least time of copying a buffer larger than any cache
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SIZES = {"cpu": (2048, 2**28), "cuda": (8192, 2**32)}  # n of the product, bytes of the copied buffer
ROUNDS, SECONDS = 8, 1.5  # of each program; at least two rounds are timed
DTYPES = {"float32": "float32", "bf16": "bfloat16"}  # our names and torch's


def fresh(device: str, threads: int | None = None) -> dict[str, Any]:
    """`ceilings` in a process of its own, as every point is measured. {} with a reason if it fails."""
    words = [f"device={device}", *([f"threads={threads}"] if threads else [])]
    done = subprocess.run([sys.executable, "-m", "lra.ceilings", *words], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"reason": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout)


def ceilings(device: str, threads: int | None = None) -> dict[str, Any]:
    """Rates in FLOPs and bytes per second; null for a precision the device cannot multiply in."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    n, size = SIZES[device]
    found: dict[str, Any] = {"device": device, "threads": torch.get_num_threads()}
    for name, dtype in DTYPES.items():
        try:
            a, b = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(2))
            out = torch.empty_like(a)
            seconds = least(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
            found[f"gemm_{name}_flops_per_second"] = 2 * n**3 / seconds
        except RuntimeError:
            found[f"gemm_{name}_flops_per_second"] = None
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    found["copy_bytes_per_second"] = 2 * size / least(lambda: target.copy_(source), device)
    return found


def least(program: Callable[[], Any], device: str) -> float:
    """Seconds of the fastest of up to ROUNDS rounds, after one that is not timed."""
    import torch

    def run() -> float:
        begin = time.perf_counter()
        program()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    run()
    times: list[float] = []
    while len(times) < 2 or (len(times) < ROUNDS and sum(times) < SECONDS):
        times.append(run())
    return min(times)


def main() -> int:
    from lra.errors import UserError
    from lra.machine.device import resolve_device

    given = dict(word.partition("=")[::2] for word in sys.argv[1:])
    if set(given) - {"device", "threads"}:
        wrong = ", ".join(sorted(set(given) - {"device", "threads"}))
        raise UserError(f"{wrong}: there is no such option; allowed: device=auto|cpu|cuda, threads=N")
    device, threads = given.get("device", "auto"), given.get("threads")
    if device not in ("auto", *SIZES):
        raise UserError(f"device: {device!r} is not one of auto, cpu, cuda")
    if threads is not None and not (threads.isdigit() and int(threads)):
        raise UserError(f"threads: {threads!r} is not a number of at least 1")
    device = resolve_device(device)
    print(json.dumps(ceilings(device, int(threads) if threads else None), indent=1))
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main, __doc__)
