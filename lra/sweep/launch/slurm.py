"""Slurm, by submitit: arrays of jobs, one a run, which share a folder with the sweep and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra.errors import UserError, first_line
from lra.sweep.job import Job
from lra.sweep.launch.there import done, with_threads
from lra.sweep.spread import Ticket

ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
         "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "PREEMPTED"}  # fmt: skip
SLICE = 1000  # of an array, where Slurm does not say how long one may be


class Slurm:
    """partition, account, qos: null, the cluster's own. cpus: of a run, which are its threads. minutes: a run's limit,
    null: from what records say. at_once: jobs of an array that run at a time. sbatch: further options by their names.

    A run that is preempted keeps its state, waits to be killed, and goes on when Slurm starts it again; one that
    meets its time limit is handed over again with twice the time. Raises UserError where submitit or Slurm is missing.
    """

    def __init__(
        self,
        folder: str = "outputs/slurm",
        partition: str | None = None,
        cpus: int = 1,
        memory_gib: float | None = None,
        gpus: int = 0,
        minutes: float | None = None,
        at_once: int = 256,
        pause: float = 10.0,
        sbatch: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError("launcher: slurm needs submitit: pip install 'lra[slurm]'") from error
        self.engine = submitit.SlurmExecutor
        if self.engine.affinity() < 0:
            raise UserError("launcher: slurm is not here: there is no srun on the path")
        if cpus < 1 or gpus < 0 or at_once < 1:
            raise UserError(f"launcher: cpus={cpus}, gpus={gpus}, at_once={at_once}: cpus and at_once are at least 1")
        self.folder, self.cpus, self.minutes, self.pause = Path(folder), cpus, minutes, pause
        self.options = {"cpus_per_task": cpus, "array_parallelism": at_once, "signal_delay_s": 120}
        self.options |= {"partition": partition} if partition is not None else {}
        self.options |= {"mem": f"{round(memory_gib * 1024)}M"} if memory_gib is not None else {}
        self.options |= {"gpus_per_node": gpus} if gpus else {}
        self.options["additional_parameters"] = dict(sbatch or {}) | {"requeue": True}

    def words(self, job: Job) -> tuple[str, ...]:
        return with_threads(job.words, self.cpus)

    def submit(self, runs: Sequence[tuple[Job, float]]) -> list[Ticket]:
        tickets, size = [], self.slice()
        for begin in range(0, len(runs), size):
            tickets += self._array(runs[begin : begin + size])
        return tickets

    def _array(self, runs: Sequence[tuple[Job, float]]) -> list[Ticket]:
        executor = self.engine(folder=self.folder, max_num_timeout=0)
        minutes = max(minutes for _, minutes in runs)
        executor.update_parameters(time=max(2, round(minutes)), job_name="lra", **self.options)
        try:
            with executor.batch():
                made = [executor.submit(done, job.words, job.config_dir, str(Path.cwd()), True) for job, _ in runs]
        except (subprocess.SubprocessError, RuntimeError, ValueError) as error:
            raise UserError(f"launcher: slurm does not take the jobs: {_said(error)}") from error
        return [
            Ticket(m.job_id, job, minutes, str(m.paths.stderr), handle=m)
            for m, (job, _) in zip(made, runs, strict=True)
        ]

    def slice(self) -> int:
        """How long an array may be."""
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _asked("scontrol", "show", "config") or "")
        return max(1, int(found[1]) - 1) if found else SLICE

    def look(self, tickets: Sequence[Ticket]) -> None:
        listed = _asked("squeue", "--noheader", "--array", "--user", "$USER", "--format", "%i %T")
        if listed is None:
            return  # the controller is busy: what it does not say is not known
        queue = dict(line.split()[:2] for line in listed.splitlines() if len(line.split()) > 1)
        for ticket in tickets:
            if ticket.how is None and queue.get(ticket.name) not in ALIVE:
                ticket.how = self._ended(ticket)

    def _ended(self, ticket: Ticket) -> str | None:
        """How Slurm says that a job has ended; null while it is said to be alive after all."""
        said = _asked("scontrol", "--oneliner", "show", "job", ticket.name) or ""
        found = re.search(r"JobState=(\w+)", said)
        if found and found[1] in ALIVE:
            return None
        return found[1] if found else "forgotten by Slurm"

    def leave(self, tickets: Sequence[Ticket]) -> str:
        names = " ".join(sorted({t.name.split("_")[0] for t in tickets}))
        return f"{len(tickets)} runs stay with Slurm (scancel {names} ends them); the same command watches them again"


def _asked(*command: str) -> str | None:
    """What a command of Slurm's says; null if it fails."""
    import getpass

    words = [getpass.getuser() if w == "$USER" else w for w in command]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _said(error: BaseException) -> str:
    said = getattr(error, "stderr", None) or getattr(error, "output", None) or first_line(error)
    return " ".join(str(said).split())[:300]
