"""What a run says while it trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Shows loss, validation accuracy, examples/s and the time left; told of every step from some first one on."""

    def __init__(self, steps: int, quiet: bool = False, seconds_between_lines: float = 30.0) -> None:
        self.steps, self.quiet, self.pause = steps, quiet, seconds_between_lines
        self.terminal = sys.stderr.isatty()
        self.valid: float | None = None
        self.start = self.spoken = time.monotonic()
        self.bar = None
        self.before: int | None = None  # steps that were done elsewhere
        if self.terminal and not quiet and steps:
            from tqdm import tqdm

            self.bar = tqdm(total=steps, unit="step", dynamic_ncols=True, leave=False)

    def __call__(
        self,
        step: int,
        loss: float | None = None,
        examples_per_second: float | None = None,
        valid: float | None = None,
    ) -> None:
        if self.quiet:
            return
        if self.before is None:
            self.before = step - 1
            if self.bar is not None:
                self.bar.initial = self.bar.n = self.before
        fresh = valid is not None
        self.valid = valid if fresh else self.valid
        parts = {"loss": f"{loss:.3f}" if loss is not None else "-"}
        if self.valid is not None:
            parts["valid"] = f"{self.valid:.1%}"
        if examples_per_second:
            parts["ex/s"] = f"{examples_per_second:.0f}"
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix(parts, refresh=False)
            return
        now = time.monotonic()
        if fresh or now - self.spoken >= self.pause:
            self.spoken = now
            left = (now - self.start) / max(step - self.before, 1) * (self.steps - step)
            words = "  ".join(f"{k} {v}" for k, v in parts.items())
            print(f"step {step}/{self.steps}  {words}  {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
