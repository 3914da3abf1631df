"""What a run knows so far. Whatever ends it, this becomes the record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra.machine import facts
from lra.record import store
from lra.record.record import Record
from lra.settings import identity
from lra.settings.schema import Settings
from lra.settings.typed import plain


class Ended(Exception):
    """A run ends here, with a status of the record's and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


@dataclass(slots=True)
class Draft:
    """The phases fill this in; the fields below `wall` are the record's of the same name.

    With slots, so that a misspelt field fails at once and not after hours of training.
    """

    settings: Settings
    started_utc: str
    run_id: str
    main: bool = True  # the process that writes the record
    exam: Any = None
    trainee: Any = None
    treatment: Any = None
    fit: Any = None  # what training has left so far
    mirror: Any = None
    answers: bytes | None = None  # packed predictions of the test items
    wall: dict[str, float] = field(default_factory=dict)  # seconds of each phase

    machine: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    groups: list[Mapping[str, Any]] = field(default_factory=list)
    training: Mapping[str, Any] = field(default_factory=dict)
    curve: list[Mapping[str, Any]] = field(default_factory=list)
    steps_done: int | None = None
    best_step: int | None = None
    accuracy_valid: float | None = None
    items_valid: int | None = None
    accuracy_test: float | None = None
    items_test: int | None = None
    loss_test: float | None = None
    checkpoint: str | None = None
    predictions: Mapping[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The settings as dicts and lists."""
        return plain(self.settings)

    def record(self, status: str, reason: str | None = None) -> Record:
        settings, config = self.settings, self.config
        commit, dirty = facts.commit()
        return Record(
            run_id=self.run_id,
            started_utc=self.started_utc,
            kind="model",
            status=status,
            reason=reason,
            task=settings.choices.task,
            model=settings.choices.model,
            budget=settings.budget,
            row=self.exam.row,
            seed=settings.seed,
            config=identity.portable(config),
            config_hash=identity.identity(config),
            variant=list(settings.variant),
            data=self.data,
            accuracy_test=self.accuracy_test,
            items_test=self.items_test,
            accuracy_valid=self.accuracy_valid,
            items_valid=self.items_valid,
            loss_test=self.loss_test,
            steps_done=self.steps_done,
            steps_budget=settings.train.steps,
            best_step=self.best_step,
            curve=self.curve,
            predictions=self.predictions,
            checkpoint=self.checkpoint,
            contract=self.contract,
            parameters=self.parameters,
            groups=self.groups,
            length=self.exam.max_len,
            batch_size=settings.train.batch_size,
            dtype=self.dtype,
            cost=self.cost,
            training=self.training,
            machine=self.machine,
            versions=facts.versions(),
            commit=commit,
            dirty=dirty,
            wall_seconds={k: round(v, 3) for k, v in self.wall.items()},
        )

    def save(self, status: str, reason: str | None) -> Path:
        """Predictions first, then the record that names them: a record is never half of the truth."""
        results = Path(self.settings.results_dir)
        if self.answers is not None and status == "ok":
            name = f"{self.run_id}.predictions.npz"
            folder = store.folder(results, self.settings.choices.task, self.settings.choices.model)
            store.write_once(folder / name, self.answers)
            digest = hashlib.sha256(self.answers).hexdigest()
            self.predictions = {"file": name, "sha256": digest, "items": self.items_test}
        return store.write(results, self.record(status, reason))
