"""The measurement against programs whose answer is known.

    python -m lra.measure --self-test [device=auto|cpu|cuda]

Prints a line a check, with the number measured and the number that is right. Exit code 1 if one
fails: numbers from this machine are then not to be trusted. Under half a minute on a quiet core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lra.measure import gauges
from lra.measure.cost import Limits, rates
from lra.measure.gauges import quiet, slope
from lra.root import ROOT

MIB = 2**20
# glibc then maps every block above 64 KiB by itself and gives it back at once, so that resident
# memory follows the live bytes; read at start, hence a process of its own.
TUNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
# Float32 FLOPs a cycle and core of the widest CPUs (two units of 512 bits; AMX knows no float32),
# and more cycles a second than any has.
FLOPS_PER_CYCLE, CYCLES = 64, 7e9
ENCODER = """
import ctypes, gc, torch
from lra.measure.gauges import step_peak_bytes
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
net = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
x = torch.randn(4, 1024, 128)
def step():
    net(x).square().mean().backward()
    net.zero_grad(set_to_none=True)
"""
READING = """
def rss(key):
    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(key)) * 1024
for _ in range(2):
    step()
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
open('/proc/self/clear_refs', 'w').write('5')
before = rss('VmRSS')
step()
print(rss('VmHWM') - before, step_peak_bytes(step))
"""


class Given(NamedTuple):
    """Of a batch what a model is called with."""

    tokens: Any
    mask: Any = None


class Check(NamedTuple):
    name: str
    ok: bool
    measured: str
    expected: str


def resident_against_counted(program: str = ENCODER) -> tuple[int, int]:
    """(resident, counted) bytes of the same step: the growth of the process's resident memory as the
    kernel saw it, and what `step_peak_bytes` says. Linux with glibc only.

    `program` imports ctypes, gc and `step_peak_bytes` and defines `step`; it runs in a process of its own.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", program + READING],
        capture_output=True,
        text=True,
        env=os.environ | TUNED | {"PYTHONPATH": path},
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    resident, counted = map(int, done.stdout.split())
    return resident, counted


def checks(device: str) -> Iterator[Check]:
    """One at a time, so that each can be shown as it is done."""
    import torch

    place = torch.device(device)

    def peak(program: Callable[[], Any]) -> int:
        with quiet():
            return gauges.step_peak_bytes(program, place)

    def block(mib: int) -> Any:
        return torch.empty(mib * MIB, dtype=torch.uint8, device=place)

    yield from exact_bytes(peak, block)
    yield masks(peak, place)
    yield sleep(place)
    yield from product(device)
    if sys.platform.startswith("linux"):
        yield resident_memory()


def exact_bytes(peak: Callable[..., int], block: Callable[[int], Any]) -> Iterator[Check]:
    def six() -> None:
        kept = [block(64) for _ in range(6)]
        del kept[:]

    def nested() -> None:
        a = block(64)  # live: 64
        b, c = block(32), block(16)  # 112
        del b  # 80
        d = block(48)  # 128
        del a, c  # 48
        e = block(72)  # 120
        del d, e

    before = block(64)
    programs: list[tuple[str, Callable[[], Any], int]] = [
        ("six tensors of 64 MiB", six, 384),
        ("tensors freed and made in turn", nested, 128),
        ("what was live before", before.clone, 64),
    ]
    for name, program, mib in programs:
        found = {peak(program) for _ in range(2)}
        yield Check(name, found == {mib * MIB}, " and ".join(f"{n:,}" for n in sorted(found)), f"{mib * MIB:,} bytes")


def masks(peak: Callable[..., int], device: Any) -> Check:
    """A full matrix with a mask of blocks and the same blocks alone: equal answers, unequal growth."""
    import torch

    lengths, width, block = (1024, 2048, 4096), 16, 64
    peaks: dict[str, list[int]] = {"dense": [], "blocked": []}
    for length in lengths:
        x = torch.randn(length, width, device=device, requires_grad=True)
        same = torch.arange(length, device=device) // block

        def dense(x: Any = x, same: Any = same) -> None:
            scores = (x @ x.T).masked_fill(same[:, None] != same, float("-inf"))
            (scores.softmax(-1) @ x).sum().backward()
            x.grad = None

        def blocked(x: Any = x) -> None:
            part = x.view(-1, block, width)
            ((part @ part.transpose(1, 2)).softmax(-1) @ part).sum().backward()
            x.grad = None

        for name, program in (("dense", dense), ("blocked", blocked)):
            program()
            peaks[name].append(peak(program))
    grows = {name: slope(lengths, found) for name, found in peaks.items()}
    ok = grows["dense"] > 1.9 and grows["blocked"] < 1.1
    measured = f"L^{grows['dense']:.2f} and L^{grows['blocked']:.2f}"
    return Check("peak of a dense and of a blocked mask", ok, measured, "L^2 and L^1")


def sleep(device: Any, seconds: float = 0.05) -> Check:
    """Waiting takes wall time and no CPU time."""

    found = rates(gauges.timed(lambda: time.sleep(seconds), Limits(9, 10.0), device), 1, 1)
    wall, cpu = found.seconds_median, found.cpu_seconds_median
    ok = seconds <= found.seconds_min and wall < 1.2 * seconds and cpu < 0.1 * seconds
    return Check("a sleep", ok, f"{1000 * wall:.1f} ms, {1000 * cpu:.1f} ms of CPU", f"{1000 * seconds:.0f} ms, 0 ms")


def product(device: str, n: int = 1024) -> Iterator[Check]:
    """A linear layer: FLOPs exactly, and a rate between a thousandth of what silicon can do and all of it."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(n, n))

        def forward(self, tokens: Any, mask: Any) -> Any:
            return tokens.to(self.weight.dtype) @ self.weight

    net = Net()
    exact = 2 * n**3
    counted = gauges.flops(net, Given(torch.zeros(n, n, dtype=torch.long, device="meta")))
    # Tokens need no gradient, so the backward pass has one product.
    ok = (counted["inference_flops"], counted["train_flops"]) == (exact, 2 * exact)
    found = f"{counted['inference_flops']:,} and {counted['train_flops']:,}"
    yield Check("FLOPs of a matrix product", ok, found, f"{exact:,} and {2 * exact:,}")
    place = torch.device(device)
    a, b = (torch.randn(n, n, device=place) for _ in range(2))
    torch.mm(a, b)
    times = rates(gauges.timed(lambda: torch.mm(a, b), Limits(20, 5.0), place), 1, 1)
    rate = exact / times.seconds_median
    most = FLOPS_PER_CYCLE * CYCLES * torch.get_num_threads() if device == "cpu" else 1e15
    yield Check(
        "its rate", most / 1000 < rate < most, f"{rate / 1e9:,.1f} GFLOP/s", f"{most / 1e12:,.1f} to {most / 1e9:,.0f}"
    )


def resident_memory() -> Check:
    """Against the kernel's own account of the process."""
    try:
        resident, counted = resident_against_counted()
    except (RuntimeError, OSError) as error:
        return Check("resident memory of a step", False, f"no reading: {error}", "within 1 %")
    ratio = resident / counted
    measured = f"{counted / MIB:.2f} MiB, the system says {resident / MIB:.2f}"
    return Check("resident memory of a step", abs(ratio - 1) < 0.01, measured, "within 1 %")


def main(words: list[str]) -> int:
    from lra.errors import UserError
    from lra.machine.device import resolve_device

    given = dict(word.partition("=")[::2] for word in words)
    device = given.pop("device", "auto")
    if given or device not in ("auto", "cpu", "cuda"):
        raise UserError("--self-test takes nothing but device=auto, device=cpu or device=cuda")
    failed = 0
    for check in checks(resolve_device(device)):
        failed += not check.ok
        mark = "ok  " if check.ok else "FAIL"
        print(f"{mark}  {check.name}: {check.measured} (right: {check.expected})", flush=True)
    print("the measurement can be trusted here" if not failed else f"{failed} checks failed")
    return 1 if failed else 0
