"""One run of a sweep: the words that name it, how it is called in tables, and its row there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lra.errors import UserError
from lra.record.record import Record
from lra.settings.compose import folders_of, of_hydra, settled
from lra.settings.merged import Composed, composed
from lra.settings.schema import Settings


@dataclass(frozen=True)
class Job:
    """The words that compose the run again, without those of the sweep that asked for it."""

    words: tuple[str, ...]
    config_dir: str | None
    task: str
    model: str
    seed: int
    label: str
    # As they were composed for signing up, for who reads them at once; files of one's own may be edited meanwhile.
    settings: Settings | None = field(default=None, compare=False, repr=False)

    def also(self, words: Sequence[str]) -> Job:
        """The same with more words, of which those that were typed win."""
        typed = {word.split("=")[0] for word in self.words}
        more = tuple(word for word in words if word.split("=")[0] not in typed)
        return replace(self, settings=None, words=(*self.words, *more), label=" ".join([self.label, *more]))


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
    settings = None
    words = _own(list(hydra.overrides.task), hydra.runtime.choices, cfg.sweep)
    if cfg.dry_run:
        from omegaconf import open_dict

        with open_dict(cfg):
            cfg.hydra = hydra
        settings = _settled(lambda: of_hydra(cfg), folders_of(hydra), words)
    return _job(words, config_dir(hydra), hydra.runtime.choices, cfg.seed, settings)


def merged(words: Sequence[str], hydra: Any) -> Job | None:
    """The same without Hydra, where that is possible; `hydra`: the sweep's own settings."""
    folders = folders_of(hydra)
    found = None if hydra.overrides.hydra else composed(words, folders)
    if found is None:
        return None
    own = _own(found.words, found.choices, found.own["sweep"])
    settings = _settled(lambda: found, folders, own) if found.own["dry_run"] else None
    return _job(own, config_dir(hydra), found.choices, found.own["seed"], settings)


def _own(words: Sequence[str], choices: Mapping[str, Any], sweep: str | None) -> list[str]:
    """The words of a run, less those of the sweep."""
    # A cost sweep's file sets what every point of it has, so there the sweep is part of the run.
    ours = ("minutes", "dry_run") if sweep == "cost" else ("sweep", "minutes", "workers", "devices", "dry_run")
    out = [w for w in words if w.split("=")[0] not in ours]
    if not any(w.startswith("budget=") for w in out):
        out.append(f"budget={choices['budget']}")  # the sweep's file may have chosen another
    return out


def _job(
    words: Sequence[str], folder: str | None, choices: Mapping[str, Any], seed: int, settings: Settings | None
) -> Job:
    known = {"task", "model", "seed", "budget", "results_dir", "output_dir", "data_dir"}
    other = [w for w in words if w.split("=")[0] not in known and not w.startswith("launcher")]
    label = " ".join([choices["task"], choices["model"], f"s{seed}", *other])
    return Job(tuple(words), folder, choices["task"], choices["model"], seed, label, settings)


def _settled(found: Callable[[], Composed], folders: Sequence[str], words: Sequence[str]) -> Settings | None:
    """The settings of the job as it is composed now, which spares another composition; null where they are refused, as
    composing them again will say."""
    try:
        return settled(found(), folders, words)
    except (UserError, ValueError):
        return None


def config_dir(hydra: Any) -> str | None:
    """The folder of `--config-dir`, from Hydra's own settings."""
    return next((s.path for s in hydra.runtime.config_sources if s.provider == "command-line"), None)
