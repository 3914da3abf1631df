"""A fresh process on this machine, one after the other, so that no run disturbs another's measurement."""

from __future__ import annotations

from lra.runner.keeper import End, kept
from lra.settings import compose
from lra.sweep.job import Job


class Local:
    def launch(self, job: Job, seconds: float | None = None, over: int = 0) -> End:
        return kept(compose.config(job.words, job.config_dir), seconds, quiet=True, shared=True, over=over)
