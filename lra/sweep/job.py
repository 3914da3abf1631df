"""One run of a sweep: the words that name it, how it is called in tables, and its row there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lra.errors import UserError
from lra.record.record import Record
from lra.settings.again import portable
from lra.settings.compose import folders_of, settled
from lra.settings.schema import Settings


@dataclass(frozen=True)
class Job:
    """The words that compose the run again, without those of the sweep that asked for it."""

    words: tuple[str, ...]
    config_dir: str | None
    task: str
    model: str
    seed: int
    label: str  # which records of others name it by: without places
    # As they were composed for signing up, for who reads them at once; files of one's own may be edited meanwhile.
    settings: Settings | None = field(default=None, compare=False, repr=False)

    def also(self, words: Sequence[str]) -> Job:
        """The same with more words, of which those that were typed win."""
        typed = {word.split("=")[0] for word in self.words}
        more = tuple(word for word in words if word.split("=")[0] not in typed)
        return replace(
            self, settings=None, words=(*self.words, *more), label=" ".join([self.label, *map(portable, more)])
        )


@dataclass
class Row:
    """A job's row of the table at the end. status: a record's, or "refused" or "skipped"."""

    job: Job
    status: str
    reason: str | None = None
    accuracy: float | None = None
    known: bool = False  # from a record that was there before
    seconds: float | None = None
    run_id: str | None = None

    def take(self, record: Record, known: bool) -> None:
        """What a record tells."""
        self.status, self.reason, self.accuracy, self.known = record.status, record.reason, record.accuracy_test, known
        self.run_id = record.run_id


class Skipped(Exception):
    """Why a job is not started."""


def asked(cfg: Any, hydra: Any) -> Job:
    """The job that Hydra hands to a process; `hydra`: its own settings."""
    choices = hydra.runtime.choices
    # A cost sweep's file sets what every point of it has, so there the sweep is part of the run.
    ours = ("minutes", "dry_run") if cfg.sweep == "cost" else ("sweep", "minutes", "workers", "devices", "dry_run")
    words = [w for w in hydra.overrides.task if w.split("=")[0] not in ours]
    if not any(w.startswith("budget=") for w in words):
        words.append(f"budget={choices.budget}")  # the sweep's file may have chosen another
    known = {"task", "model", "seed", "budget", "results_dir", "output_dir", "data_dir", "task.data_dir"}
    other = [portable(w) for w in words if w.split("=")[0] not in known and not w.startswith("launcher")]
    label = " ".join([choices.task, choices.model, f"s{cfg.seed}", *other])
    settings = composed(cfg, hydra, words) if cfg.dry_run else None
    return Job(tuple(words), config_dir(hydra), choices.task, choices.model, cfg.seed, label, settings)


def composed(cfg: Any, hydra: Any, words: Sequence[str]) -> Settings | None:
    """The settings of the job that Hydra has composed, which spares another composition; null where they are refused,
    as composing them again will say."""
    from omegaconf import open_dict

    with open_dict(cfg):
        cfg.hydra = hydra
    try:
        return settled(cfg, folders_of(hydra), words)
    except (UserError, ValueError):
        return None


def config_dir(hydra: Any) -> str | None:
    """The folder of `--config-dir`, from Hydra's own settings."""
    return next((s.path for s in hydra.runtime.config_sources if s.provider == "command-line"), None)
