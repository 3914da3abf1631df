"""Ray, where there is no Slurm: runs as tasks of a cluster, or of this machine alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra.errors import UserError, first_line
from lra.sweep.job import Job
from lra.sweep.launch.there import done, with_threads
from lra.sweep.spread import Ticket


class Ray:
    """address: of a cluster, null: one on this machine, for as long as the sweep takes. cpus: of a run, which are its
    threads; said outright, for Ray sets OMP_NUM_THREADS itself. gpus: of a run, whole ones: on a part of one nothing
    can be measured. Raises UserError where ray is missing.
    """

    minutes = None

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: int = 0, pause: float = 2.0) -> None:
        # It sends what it counts over the network, and tells every worker that no GPU is there where none is asked for.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError("launcher: ray needs Ray: pip install 'lra[ray]'") from error
        if cpus < 1 or gpus < 0:
            raise UserError(f"launcher: cpus={cpus}, gpus={gpus}: cpus is at least 1, gpus at least 0")
        self.ray, self.address, self.cpus, self.gpus, self.pause = ray, address, cpus, gpus, pause

    def words(self, job: Job) -> tuple[str, ...]:
        return with_threads(job.words, self.cpus)

    def submit(self, runs: Sequence[tuple[Job, float]]) -> list[Ticket]:
        self._connect()
        task = self.ray.remote(done).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)
        return [self._ticket(task.remote(job.words, job.config_dir, str(Path.cwd())), job) for job, _ in runs]

    def _connect(self) -> None:
        if self.ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        local = {} if self.address else {"include_dashboard": False}
        try:
            self.ray.init(address=self.address or "local", **quiet, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"launcher: Ray at {self.address or 'this machine'}: {first_line(error)}") from error

    def _ticket(self, handle: Any, job: Job) -> Ticket:
        return Ticket(handle.task_id().hex()[:8], job, 0.0, "ray logs", handle=handle)

    def look(self, tickets: Sequence[Ticket]) -> None:
        waiting = {t.handle: t for t in tickets if t.how is None}
        if not waiting:
            return
        over, _ = self.ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for handle in over:
            try:
                waiting[handle].code = self.ray.get(handle)
                waiting[handle].how = f"exit code {waiting[handle].code}"
            except self.ray.exceptions.RayError as error:
                waiting[handle].how = type(error).__name__

    def leave(self, tickets: Sequence[Ticket]) -> str:
        for ticket in tickets:
            self.ray.cancel(ticket.handle, force=True)
        return f"{len(tickets)} runs end with Ray; the same command goes on with them"
