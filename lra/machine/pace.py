"""How fast is the machine just now?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Pace:
    """The rate of a small fixed matrix product on the CPU, taken right after each timed step.

    Clocks of shared machines drift by tens of percent within minutes, for all programs much alike:
    seconds times rate, the work that the machine could have done meanwhile, drifts by a few.
    """

    SHAPE = (512, 256, 256)
    SHARE, LEAST = 0.15, 0.01  # of the step's time, and seconds, that it goes on

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """clock: of the seconds that rates are told in; time.process_time for those of cores."""
        import torch

        self.clock = clock
        rows, inner, columns = self.SHAPE
        self.a, self.b = torch.ones(rows, inner), torch.ones(inner, columns)
        self.out = torch.empty(rows, columns)
        self.rate(0.0)

    def rate(self, step_seconds: float) -> float:
        """FLOPs per second."""
        import torch

        enough, done, begin = max(self.LEAST, self.SHARE * step_seconds), 0, self.clock()
        while True:
            torch.mm(self.a, self.b, out=self.out)
            done += 1
            if (spent := self.clock() - begin) >= enough:
                return 2 * math.prod(self.SHAPE) * done / spent
