"""The measuring process itself.

    python -m lra.measure.child ANSWER PARENT TIMEOUT

On standard input come the config and then the limits of each turn, a line of JSON each; on standard output
goes READY when it waits for the next; the answer goes to a file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lra.measure.gauges import (
    COLD,
    LEAST_STEPS,
    ONE,
    Timing,
    flops,
    is_oom,
    limit_memory,
    optimizer_tensors,
    rates,
    resident_bytes,
    step_peak_bytes,
    timed,
)
from lra.measure.session import READY, failure
from lra.record.record import PHASES


class Measurement:
    """The measurement itself, in this process: prepared and warmed up, then timed turn by turn.

    `failed` is set if it is known already that there will be no times.
    """

    def __init__(self, config: dict[str, Any], parent: int, timeout: float) -> None:
        import torch

        from lra.machine.device import resolve_device, resolve_dtype, seed_everything
        from lra.machine.pace import Pace
        from lra.machine.watch import Watch
        from lra.settings import build
        from lra.settings.typed import typed
        from lra.train.optim import optimizer

        cfg = typed(config)
        if cfg.measure.memory_limit_gib is not None:
            limit_memory(cfg.measure.memory_limit_gib)
        self.device = device = torch.device(resolve_device(cfg.device))
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        seed_everything(cfg.seed)
        exam = build.task(cfg)
        self.model = model = build.model(cfg, exam)
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
        bf16 = resolve_dtype(cfg.dtype, device.type) == "bf16"

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
        from lra.machine.watch import disturbed

        if self.failed or not self.times["train"]:
            return self.failed or failure("failed", "no step was timed")
        for phase, times in self.times.items():
            self.result[phase] = rates(times, *self.sizes)
        self.result["conditions"] = self.watch.facts
        self.result["disturbed"] = disturbed(self.watch.facts, self.result["train"], self.result["inference"])
        self.result["attempts"] = 1
        return self.result


def main() -> int:
    answer, parent, timeout = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
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
        result = failure("oom", (str(error).splitlines() or ["out of memory"])[0].split("DefaultCPUAllocator: ")[-1])
    draft = answer.with_suffix(".draft")
    draft.write_text(json.dumps(result))
    draft.rename(answer)
    return 0


if __name__ == "__main__":
    from lra.errors import guarded

    guarded(main)
