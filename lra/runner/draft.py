"""What a run knows so far. Whatever ends it, this becomes the record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lra.console import line, say
from lra.machine import facts
from lra.record import store
from lra.record.checks import LONGEST_LINE
from lra.record.claim import Claim, Held, Overtaken
from lra.record.record import Record
from lra.record.reserve import WEIGHTS, Reserve
from lra.record.unfinished import states
from lra.runner.known import Known
from lra.runner.rescue import written
from lra.settings import again, identity
from lra.settings.schema import Settings, Train
from lra.settings.typed import plain


class Ended(Exception):
    """A run ends here, with a status of the record's and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Terms:
    """On which a run is asked for. shared: others may be doing the same ones, so that one which has its record
    meanwhile needs no doing. over: the number of a claim whose owner was seen to be silent for too long."""

    shared: bool = False
    over: int = 0


ALONE = Terms()


@dataclass(slots=True)
class Draft:
    """The phases fill this in; the fields below `wall` are the record's of the same name.

    With slots, so that a misspelt field fails at once and not after hours of training.
    """

    settings: Settings
    started_utc: str
    run_id: str
    main: bool = True  # the process that writes the record
    tell: Callable[[dict[str, Any]], Any] | None = None  # whoever keeps the run hears of it
    terms: Terms = ALONE
    reserve: Reserve | None = None
    interrupted: bool = False  # told to end
    asked: bool = False  # told to keep what there is, and to go on
    holding: bool = False  # in the middle of a step, which nothing interrupts
    claim: Claim | None = None  # null in a process that leaves no record
    unfinished: Any = None  # where the run is kept while it has no record
    state: Any = None  # from which training goes on
    scored: bool = False  # the test has been sat: now nothing but a record ends the run
    settled: bool = False  # it is known how the run ended
    exam: Any = None
    trainee: Any = None
    treatment: Any = None
    fit: Any = None  # what training has left so far
    mirror: Any = None
    answers: bytes | None = None  # packed predictions of the test items
    weights: bytes | None = None  # that are to lie beside the record
    code: tuple[str | None, bool | None] | None = None  # commit, and whether the code differs from it
    wall: dict[str, float] = field(default_factory=dict)  # seconds of each phase
    began: float = field(default_factory=time.perf_counter)
    before: float = 0.0  # seconds that others had spent on the run
    segments: list[Mapping[str, Any]] = field(default_factory=list)  # that were done before

    machine: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    minutes: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    active_parameters: int | None = None
    state_floats: int | None = None
    groups: list[Mapping[str, Any]] = field(default_factory=list)
    training: Mapping[str, Any] = field(default_factory=dict)
    curve: list[Mapping[str, Any]] = field(default_factory=list)
    taken: int = 0  # steps of training, of all learning rates that were tried
    ladder: list[Mapping[str, Any]] = field(default_factory=list)
    score: Mapping[str, Any] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)
    steps_done: int | None = None
    best_step: int | None = None
    accuracy_valid: float | None = None
    items_valid: int | None = None
    accuracy_test: float | None = None
    items_test: int | None = None
    loss_test: float | None = None
    checkpoint: str | None = None
    kept: Mapping[str, Any] | None = None
    predictions: Mapping[str, Any] | None = None

    @property
    def train(self) -> Train:
        """The training budget with all numbers of steps; those that follow from minutes once they are known."""
        asked = self.settings.train
        if self.minutes:
            return asked.within(self.minutes["steps"])
        return asked if asked.steps is None else asked.of_steps(asked.steps)

    @property
    def ahead(self) -> int:
        """Steps that come before those of training."""
        return self.pretraining.get("steps", 0)

    @property
    def steps_in_all(self) -> int | None:
        """The most that the run takes; null where its steps are not known yet."""
        return None if (steps := self.train.steps_in_all) is None else steps + self.ahead

    @property
    def seconds(self) -> float:
        """Spent on the run so far, by whoever did it."""
        return self.before + time.perf_counter() - self.began

    @property
    def name(self) -> str:
        """Of the files beside the record: nobody's else, should two processes have had the run one after the other."""
        again = self.claim.generation if self.claim is not None else 1
        return self.run_id if again == 1 else f"{self.run_id}.{again}"

    def let_go(self) -> None:
        """Nothing more comes of this process: somebody else may take up what there is."""
        if self.reserve is not None:
            self.reserve.remove()
        if self.claim is None:
            return
        if states(self.claim.folder):
            self.claim.give_up()
        else:
            self.claim.clear()

    @property
    def config(self) -> dict[str, Any]:
        """The settings as dicts and lists."""
        return plain(self.settings)

    def report(self, phase: str) -> None:
        """Tell whoever keeps the run which phase it is in, and all that is known."""
        if self.tell is not None and self.main:
            steps = self.train.steps_in_all
            self.tell({"phase": phase, "steps": steps, "draft": asdict(self.record("interrupted"))})

    def report_known(self, found: Known) -> None:
        """Tell whoever keeps the run that it has been done meanwhile."""
        if self.tell is not None:
            self.tell({"path": str(found.path), "status": found.record.status, "known": True})

    def report_held(self, held: Held) -> None:
        """Tell whoever keeps the run that somebody else does it."""
        if self.tell is not None:
            self.tell({"held": dict(held.owner)})

    def record(self, status: str, reason: str | None = None) -> Record:
        settings, config = self.settings, self.config
        self.code = self.code or facts.commit()
        return Record(
            run_id=self.run_id,
            started_utc=self.started_utc,
            kind="model",
            status=status,
            reason=reason if reason is None else line(reason)[:LONGEST_LINE],
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
            steps_budget=self.train.steps,
            minutes=self.minutes,
            best_step=self.best_step,
            curve=self.curve,
            ladder=self.ladder,
            score=self.score,
            noted=self.noted,
            predictions=self.predictions,
            checkpoint=self.checkpoint,
            kept=self.kept,
            contract=self.contract,
            pretraining=self.pretraining,
            parameters=self.parameters,
            active_parameters=self.active_parameters,
            state_floats=self.state_floats,
            groups=self.groups,
            length=self.exam.max_len,
            batch_size=settings.train.batch_size,
            dtype=self.dtype,
            cost=self.cost,
            training=self.training,
            machine=self.machine,
            versions=facts.versions(),
            commit=self.code[0],
            dirty=self.code[1],
            segments=self._segments(),
            command=self._command(),
            wall_seconds={k: round(v, 3) for k, v in self.wall.items()},
        )

    def _command(self) -> str | None:
        """With what was chosen on this machine."""
        here = {"device": self.machine.get("device"), "dtype": self.dtype, "threads": self.machine.get("threads")}
        steps = self.train.steps if self.minutes else None
        return again.command(self.settings, here, steps, self.machine.get("processes", 1))

    def _segments(self) -> list[Mapping[str, Any]]:
        """Of a run that was done in one go nothing beyond its other conditions is to be said."""
        return [*self.segments, self.unfinished.segment(self.taken + self.ahead)] if self.segments else []

    def save(self, status: str, reason: str | None) -> Path:
        """Write the record, and tell where it lies. Raises UserError if no place holds it (lra.runner.rescue)."""
        if self.reserve is not None:
            self.reserve.release()

        def shown() -> str:
            return json.dumps(asdict(self.record(status, reason)))

        if self.claim is not None:
            self.claim.check()
        path = written(self.settings, lambda results: self._written(results, status, reason), shown)
        if self.tell is not None:
            self.tell({"path": str(path), "status": status})
        return path

    def _written(self, results: Path, status: str, reason: str | None) -> Path:
        """Predictions first, then the record that names them: a record is never half of the truth."""
        folder = store.folder(results, self.settings.choices.task, self.settings.choices.model)
        name = f"{self.name}.predictions.npz"
        if self.answers is not None and status == "ok":
            store.write_once(folder / name, self.answers)
            digest = hashlib.sha256(self.answers).hexdigest()
            self.predictions = {"file": name, "sha256": digest, "items": self.items_test}
        self._keep(folder)
        try:
            return store.write(results, self.record(status, reason))
        except FileExistsError as error:
            for own in (name, f"{self.name}{WEIGHTS}"):
                (folder / own).unlink(missing_ok=True)
            raise Overtaken(f"{self.run_id} has been recorded by another process") from error

    def _keep(self, folder: Path) -> None:
        """The weights beside the record. A disk that is too full for them costs them, with a line, and no score."""
        self.kept, name = None, f"{self.name}{WEIGHTS}"
        if self.weights is None:
            return
        try:
            store.write_once(folder / name, self.weights)
        except OSError as error:
            say(f"results_dir: {folder} cannot hold the weights ({error.strerror or error}); the record goes without")
            return
        self.checkpoint = name
        self.kept = {"file": name, "sha256": hashlib.sha256(self.weights).hexdigest()}
