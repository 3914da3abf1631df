"""How fast is the machine just now?"""

from __future__ import annotations

import math
import time


class Pace:
    """The rate of a small fixed matrix product on the CPU, taken right after each timed step.

    Clocks of shared machines drift by tens of percent within minutes, for all programs much alike:
    seconds times rate, the work that the machine could have done meanwhile, drifts by a few.
    """

    SHAPE = (512, 256, 256)
    SHARE, LEAST = 0.15, 0.01  # of the step's time, and seconds, that it goes on

    def __init__(self) -> None:
        import torch

        rows, inner, columns = self.SHAPE
        self.a, self.b = torch.ones(rows, inner), torch.ones(inner, columns)
        self.out = torch.empty(rows, columns)
        self.rate(0.0)

    def rate(self, step_seconds: float) -> float:
        """FLOPs per second."""
        import torch

        enough, done, begin = max(self.LEAST, self.SHARE * step_seconds), 0, time.perf_counter()
        while True:
            torch.mm(self.a, self.b, out=self.out)
            done += 1
            if (spent := time.perf_counter() - begin) >= enough:
                return 2 * math.prod(self.SHAPE) * done / spent
