"""A fresh process on this machine, one after the other, so that no run disturbs another's measurement."""

from __future__ import annotations

import os
import subprocess
import sys

from lra.sweep.job import Job

GRACE = 60.0  # seconds that a run whose time is over has to write its record


class Local:
    def launch(self, job: Job, seconds: float | None = None) -> tuple[int, bool]:
        config_dir = [f"--config-dir={job.config_dir}"] if job.config_dir else []
        run = subprocess.Popen(
            [sys.executable, "-m", "lra", *config_dir, *job.words, "hydra.mode=RUN"],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"LRA_SWEEP": str(os.getpid())},
        )
        try:
            return run.wait(seconds), False
        except KeyboardInterrupt:
            run.wait()  # it has got the signal too, and is writing its record
            raise
        except subprocess.TimeoutExpired:
            run.terminate()
        try:
            return run.wait(GRACE), True
        except subprocess.TimeoutExpired:
            run.kill()
            return run.wait(), True
