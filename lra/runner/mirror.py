"""The optional wandb mirror of a run. The record is the archive; nothing here may fail or hold up a run.

`wandb.mode=offline` needs neither key nor network; `online` without them falls back to it, says so in
one line, and what is kept can be sent later by `wandb sync`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra.errors import first_line
from lra.runner.draft import Draft
from lra.settings import identity
from lra.settings.schema import Settings

# Seconds. wandb's own defaults are 90 to start and without limit to send what is left at the end.
START, END = 20.0, 60.0
CURVES = {
    "loss": "train/loss",
    "examples_per_second": "train/examples_per_second",
    "valid": "valid/accuracy",
}


def mirrored(draft: Draft) -> Mirror:
    """The run's mirror, started when first asked for: after the measurement, which it would disturb."""
    if draft.mirror is None:
        config = identity.portable(draft.config)
        draft.mirror = Mirror(draft.settings, config, draft.run_id, draft.exam.row, draft.cost)
    return draft.mirror


class Mirror:
    """Shows a run in wandb: configuration, curves, costs, the test table, the record as an artifact.

    Groups and names sort: in `quick/listops-128` stands `listops-128/performer/s000`.
    Does nothing if `wandb.mode` is disabled or wandb is out of order.
    """

    def __init__(
        self, settings: Settings, config: Mapping[str, Any], run_id: str, row: str, cost: Mapping[str, Any]
    ) -> None:
        self.run: Any = None
        if settings.wandb.mode == "disabled":
            return
        name = "/".join([settings.choices.model, *settings.variant, f"s{settings.seed:03d}"])
        facts = {
            "project": settings.wandb.project,
            "entity": settings.wandb.entity,
            "dir": str(Path(settings.output_dir)),
            "group": f"{settings.budget}/{row}",
            "job_type": settings.choices.model,
            "name": f"{row}/{name}",
            "tags": [settings.budget, settings.choices.task, settings.choices.model],
            "config": config | {"run_id": run_id, "row": row},
        }
        self._guarded(self._start, settings.wandb.mode, facts)
        self._guarded(self._summarise, {"cost": cost})

    def _start(self, mode: str, facts: dict[str, Any]) -> None:
        # wandb's reports on its own errors go over the network even offline, and hold up the end of a run without one.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.wandb = wandb
        Path(facts["dir"]).mkdir(parents=True, exist_ok=True)
        wandb.setup(wandb.Settings(silent=True))  # without this it asks for a key on a terminal, and waits
        quiet = wandb.Settings(
            silent=True, console="off", init_timeout=START, finish_timeout=END, finish_timeout_raises=True
        )
        try:
            self.run = wandb.init(mode=mode, settings=quiet, **facts)
        except Exception as error:
            if mode != "online":
                raise
            self.run = wandb.init(mode="offline", settings=quiet, **facts)
            say(f"{first_line(error)}; kept offline, to send later: wandb sync {Path(self.run.dir).parent}")
            return
        if mode == "online":
            say(self.run.url)

    def log(self, step: int, **values: Any) -> None:
        """Points of the curves at a step, by the names of `lra.train.progress.Progress`."""
        self._guarded(lambda: self.run.log({CURVES[k]: v for k, v in values.items()}, step=step))

    def finish(self, record: Any, path: Path | None, table: Sequence[tuple[str, float, float, float]] = ()) -> None:
        """The final numbers, the test table (name, accuracy, 95 % from, to), the record with its predictions."""
        self._guarded(self._finish, record, path, table)
        self.run = None

    def _finish(self, record: Any, path: Path | None, table: Sequence[tuple[str, float, float, float]]) -> None:
        names = (
            "status", "reason", "accuracy_test", "accuracy_valid", "loss_test", "best_step", "steps_done",
            "parameters", "training", "wall_seconds",
        )  # fmt: skip
        self._summarise({name: getattr(record, name) for name in names})
        if table:
            columns = ["name", "accuracy", "from", "to"]
            self.run.log({"test": self.wandb.Table(columns=columns, data=[list(line) for line in table])})
        if path is not None:
            artifact = self.wandb.Artifact(f"record-{record.run_id}", type="record")
            artifact.add_file(str(path))
            if record.predictions is not None:
                artifact.add_file(str(path.with_name(record.predictions["file"])))
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if record.status == "ok" else 1)

    def _summarise(self, values: dict[str, Any]) -> None:
        self.run.summary.update(values)

    def _guarded(self, do: Any, *given: Any) -> None:
        """Do it if there is a run to mirror to; after an error there is none any more."""
        if self.run is None and do != self._start:
            return
        try:
            do(*given)
        except Exception as error:
            say(f"{first_line(error)}; the run goes on without it")
            self.run = None


def say(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr, flush=True)
