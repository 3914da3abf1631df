"""The record of one run: what it holds, how it is written, how it is found again.

Standard library only. A record is written once, under a name nobody else has, and never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# 3: groups; 4: contract, signal; 5: segments; 6: ladder, score; 7: state_floats; 8: minutes, active_parameters;
# 9: command, kept, parent, treatment, derived, pretraining, noted
SCHEMA = 9
STATUSES = ("ok", "oom", "diverged", "timeout", "interrupted", "failed")
FINAL = ("ok", "oom", "diverged")  # whatever the code, the same command would only repeat it
OUTSIDE = (1, 2, 3, 9, 14, 15)  # signals that come from elsewhere: what they end may go well another time
PHASES = ("train", "inference")  # of a cost, each timed on its own


@dataclass(frozen=True, repr=False)
class Record:
    """null means "not measured". Accuracies are fractions, sizes bytes, times seconds."""

    run_id: str
    started_utc: str
    kind: str  # model | floor | cost | derived
    status: str
    task: str
    model: str
    budget: str
    row: str  # the task's name in tables: says what departs from the standard exam
    seed: int
    config: Mapping[str, Any]
    config_hash: str
    variant: list[str] = field(default_factory=list)  # overrides that depart from the budget's standard run
    data: Mapping[str, Any] = field(default_factory=dict)  # fingerprint, vocabulary, sizes, notes
    reason: str | None = None  # why the status is not ok, in one line
    signal: int | None = None  # that killed the process
    local: bool | None = None  # of a floor: is the rule blind to long-range structure (see lra.marks.skill)?
    accuracy_test: float | None = None
    items_test: int | None = None
    accuracy_valid: float | None = None
    items_valid: int | None = None
    loss_test: float | None = None
    steps_done: int | None = None
    steps_budget: int | None = None
    minutes: Mapping[str, Any] = field(default_factory=dict)  # of a run that was asked for by them (lra.runner.minutes)
    best_step: int | None = None
    curve: list[Mapping[str, Any]] = field(default_factory=list)
    ladder: list[Mapping[str, Any]] = field(default_factory=list)  # of learning rates: how far each came
    score: Mapping[str, Any] = field(default_factory=dict)  # from the exam's floor to its ceiling (lra.runner.score)
    noted: Mapping[str, Any] = field(default_factory=dict)  # numbers of the answers on test, besides right and wrong
    predictions: Mapping[str, Any] | None = None  # file beside the record, its SHA-256
    checkpoint: str | None = None  # file of the best weights
    kept: Mapping[str, Any] | None = None  # the same beside the record, where it was asked for: file, its SHA-256
    contract: Mapping[str, Any] = field(default_factory=dict)  # its verdict on the model, before training
    pretraining: Mapping[str, Any] = field(default_factory=dict)  # before training, its cost apart (lra.treatments)
    parameters: int | None = None
    active_parameters: int | None = None  # that a token meets; fewer than all where it has a choice of experts
    state_floats: int | None = None  # numbers that the mixers keep of `length` tokens (lra.models)
    groups: list[Mapping[str, Any]] = field(default_factory=list)  # of parameters: name, tensors, rate, decay
    length: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    cost: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)  # real examples/s, padding share
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    wall_seconds: Mapping[str, float] = field(default_factory=dict)
    segments: list[Mapping[str, Any]] = field(default_factory=list)  # of a run that was stopped and went on
    command: str | None = None  # that repeats it (lra.settings.again)
    parent: str | None = None  # of a derived record, the run that it was made from
    treatment: Mapping[str, Any] = field(default_factory=dict)  # by which: name, words, settings, sources
    derived: Mapping[str, Any] = field(default_factory=dict)  # what it is beside its parent (lra.treat)
    schema: int = SCHEMA
    digest: str | None = field(default=None, compare=False)  # of all the rest; null before schema 2

    def __repr__(self) -> str:
        """A line, as a notebook should show it; all of it is in the fields."""
        parts = [self.status] + ([self.reason] if self.reason else [])
        if self.accuracy_test is not None:
            parts.append(f"accuracy {100 * self.accuracy_test:.2f} % of {self.items_test:,}")
        if self.cost.get("status") == "ok":
            rate, peak = self.cost["train"]["examples_per_second"], self.cost["step_peak_bytes"]
            parts.append(f"{rate:.0f} training examples/s, step peak {peak / 2**20:.1f} MiB")
        return (
            f"<{self.model} on {self.row}, budget {self.budget}, seed {self.seed}: {', '.join(parts)}; {self.run_id}>"
        )


def digest_of(raw: Mapping[str, Any]) -> str:
    """SHA-256 over a record as read from its file, less the digest itself: shows an edit by hand."""
    part = {k: v for k, v in raw.items() if k != "digest"}
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
